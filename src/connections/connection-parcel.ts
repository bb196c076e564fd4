import type { Parcel } from "../exchange/parcel.js";
import { splitHead, withHead } from "../util/head.js";

/** The kinds of the parcels that carry connections: plain ones, and those over TLS. */
export const CONNECTION_KIND = "connection";
export const SECURE_KIND = "connection over TLS";

/** A frozen connection, before it is encoded. */
export interface ConnectionParts {
  /** Of its parcel. */
  id: number;
  /** The name of its server's listener. */
  label: string;
  adapter: { readonly name: string; readonly version: number };
  /** Returned by the adapter's `freeze`. */
  state: unknown;
  /** Bytes that were read from the connection and not consumed. */
  unread?: Uint8Array | undefined;
  /** Where its record layer stands, if it has one. */
  records?: Uint8Array | undefined;
  fd: number;
}

/**
 * The secrets of TLS are bytes behind the JSON: call {@link forgetSecrets} as soon as the parcel is settled.
 *
 * @throws if the state cannot be JSON
 */
export function encodeConnection({
  id,
  label,
  adapter,
  state,
  unread,
  records,
  fd,
}: ConnectionParts): Parcel {
  const { name: protocol, version } = adapter;
  const parts =
    unread === undefined
      ? { protocol, state }
      : { protocol, state, unread: Buffer.from(unread).toString("base64") };
  const common = { label, id: String(id), version, fds: [fd] };
  if (records === undefined) {
    const body = Buffer.from(JSON.stringify(parts));
    return { ...common, kind: CONNECTION_KIND, codec: "json", body };
  }
  return { ...common, kind: SECURE_KIND, codec: "tls", body: withHead(parts, [records]) };
}

/** Erases the body of a parcel that has secrets. */
export function forgetSecrets({ kind, body }: Pick<Parcel, "kind" | "body">): void {
  if (kind === SECURE_KIND) body.fill(0);
}

interface DecodedConnection {
  /** The adapter's name. */
  protocol: string;
  /** Returned by the adapter's `freeze`. */
  state: unknown;
  unread?: Uint8Array;
  /** A view of the body. */
  records?: Uint8Array;
}

export function decodeConnection({ kind, body }: Pick<Parcel, "kind" | "body">): DecodedConnection {
  const isSecure = kind === SECURE_KIND;
  const { head, rest } = isSecure ? splitHead(body) : { head: JSON.parse(textOf(body)), rest: undefined };
  const { protocol, state, unread } = head as { protocol: string; state: unknown; unread?: string };
  return {
    protocol,
    state,
    ...(unread === undefined ? {} : { unread: Buffer.from(unread, "base64") }),
    ...(rest === undefined ? {} : { records: rest }),
  };
}

export function textOf(body: Uint8Array): string {
  return Buffer.from(body.buffer, body.byteOffset, body.length).toString();
}
