import type { Parcel } from "../exchange/parcel.js";

/** The kind of the parcels that carry connections. */
export const CONNECTION_KIND = "connection";

/** A frozen connection, before it is encoded. */
interface ConnectionParts {
  /** Of its parcel. */
  id: number;
  /** The name of its server's listener. */
  label: string;
  adapter: { readonly name: string; readonly version: number };
  /** Returned by the adapter's `freeze`. */
  state: unknown;
  /** Bytes that were read from the connection and not consumed. */
  unread?: Uint8Array | undefined;
  fd: number;
}

/** @throws if the state cannot be JSON */
export function encodeConnection({ id, label, adapter, state, unread, fd }: ConnectionParts): Parcel {
  const { name: protocol, version } = adapter;
  const parts =
    unread === undefined
      ? { protocol, state }
      : { protocol, state, unread: Buffer.from(unread).toString("base64") };
  const body = Buffer.from(JSON.stringify(parts));
  return { kind: CONNECTION_KIND, label, id: String(id), version, codec: "json", body, fds: [fd] };
}

interface DecodedConnection {
  /** The adapter's name. */
  protocol: string;
  /** Returned by the adapter's `freeze`. */
  state: unknown;
  unread?: Uint8Array;
}

export function decodeConnection(body: Uint8Array): DecodedConnection {
  const { protocol, state, unread } = JSON.parse(
    Buffer.from(body.buffer, body.byteOffset, body.length).toString(),
  ) as {
    protocol: string;
    state: unknown;
    unread?: string;
  };
  return { protocol, state, ...(unread === undefined ? {} : { unread: Buffer.from(unread, "base64") }) };
}
