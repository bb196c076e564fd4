/** A connection on its way: what the body of its parcel holds. */
interface EncodedConnection {
  /** The adapter's name. */
  protocol: string;
  /** What its `freeze` returned. */
  state: unknown;
  /** What was read from the connection and not consumed. */
  unread?: Uint8Array;
}

export function encodeFrozen({ protocol, state, unread }: EncodedConnection): Uint8Array {
  const base64 = unread === undefined ? {} : { unread: Buffer.from(unread).toString("base64") };
  return Buffer.from(JSON.stringify({ protocol, state, ...base64 }));
}

export function decodeFrozen(body: Uint8Array): EncodedConnection {
  const { protocol, state, unread } = JSON.parse(Buffer.from(body).toString()) as {
    protocol: string;
    state: unknown;
    unread?: string;
  };
  return { protocol, state, ...(unread === undefined ? {} : { unread: Buffer.from(unread, "base64") }) };
}
