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

/** The exporter of RFC 8446, 7.5. */
export function exportKeys(
  suite: CipherSuite,
  secret: Uint8Array,
  label: string,
  context: Uint8Array,
  length: number,
): Buffer {
  const digest = (data: Uint8Array): Buffer => builtins.crypto.createHash(suite.hash).update(data).digest();
  const derived = expandLabel(suite, secret, label, digest(NOTHING), suite.hashLength);
  try {
    return expandLabel(suite, derived, "exporter", digest(context), length);
  } finally {
    derived.fill(0);
  }
}

const NOTHING = Buffer.alloc(0);
