import { builtins } from "../platform/builtins.js";
import type { CipherSuite } from "./cipher-suites.js";

/** HKDF-Expand-Label of RFC 8446, 7.1. */
export function expandLabel(
  { hash }: CipherSuite,
  secret: Uint8Array,
  label: string,
  context: Uint8Array,
  length: number,
): Buffer {
  const name = Buffer.from(`tls13 ${label}`);
  const info = Buffer.concat([
    Buffer.from([length >> 8, length & 255, name.length]),
    name,
    Buffer.from([context.length]),
    context,
  ]);
  const blocks: Buffer[] = [];
  for (let size = 0; size < length; size += blocks[0]!.length) {
    const hmac = builtins.crypto.createHmac(hash, secret);
    hmac.update(blocks.at(-1) ?? NOTHING).update(info);
    blocks.push(hmac.update(Buffer.from([blocks.length + 1])).digest());
  }
  const expanded = Buffer.concat(blocks, length);
  for (const block of blocks) block.fill(0);
  return expanded;
}

/**
 * The exporter of RFC 8446, 7.5.
 *
 * @throws {TypeError | RangeError} Node's own exporter refuses such an argument. With it the client would get different keys
 */
export function exportKeys(
  suite: CipherSuite,
  secret: Uint8Array,
  label: string,
  context: NodeJS.ArrayBufferView,
  length: number,
): Buffer {
  if (typeof label !== "string" || !ArrayBuffer.isView(context)) {
    throw new TypeError("the label must be a string, and the context bytes");
  }
  const longest = BLOCKS * suite.hashLength;
  const fits = Number.isInteger(length) && length > 0 && length <= longest;
  if (!fits || Buffer.byteLength(label) > LONGEST_LABEL) {
    throw new RangeError(
      `the length must be from 1 to ${longest} bytes, and the label at most ${LONGEST_LABEL}`,
    );
  }
  const digest = (data: NodeJS.ArrayBufferView): Buffer =>
    builtins.crypto.createHash(suite.hash).update(data).digest();
  const derived = expandLabel(suite, secret, label, digest(NOTHING), suite.hashLength);
  try {
    return expandLabel(suite, derived, "exporter", digest(context), length);
  } finally {
    derived.fill(0);
  }
}

const NOTHING = Buffer.alloc(0);

/** The counter of HKDF's blocks is one byte; so is the length of a label, which begins with "tls13 ". */
const BLOCKS = 255;
const LONGEST_LABEL = 249;
