import type { TLSSocket } from "node:tls";
import { LARGEST } from "./record-format.js";

/**
 * The largest record that a client has asked for with the extension `max_fragment_length` (RFC 6066, 4), in bytes of
 * plaintext. Only OpenSSL's encoding of a session has it: a SEQUENCE whose field 17 is the code of the length.
 */
export function largestRecordOf(socket: TLSSocket): number {
  const session = socket.getSession();
  if (session === undefined) return LARGEST;
  try {
    const [, content] = headerAt(session, 0);
    for (let at = content; at < session.length;) {
      const [length, value] = headerAt(session, at);
      if (session[at] === FIELD_17) return LENGTHS[session[value + length - 1]!] ?? LARGEST;
      at = value + length;
    }
    return LARGEST;
  } finally {
    // It has the secret by which the session is resumed.
    session.fill(0);
  }
}

/** Of a DER element: the length of its value, and where that begins. */
function headerAt(der: Buffer, at: number): [length: number, value: number] {
  const first = der[at + 1]!;
  if (first < 0x80) return [first, at + 2];
  const bytes = first - 0x80;
  return [der.readUIntBE(at + 2, bytes), at + 2 + bytes];
}

/** A context-specific, constructed tag. */
const FIELD_17 = 0xa0 + 17;

const LENGTHS = [undefined, 512, 1024, 2048, 4096];
