import { close, read, write } from "node:fs";
import { promisify } from "node:util";
import { builtins } from "../platform/builtins.js";
import { check, native } from "../platform/native.js";

/** Bytes of a body that a message carries, at most; a larger body is sent as a memory file. */
export const MAX_INLINE = 64 * 1024;

/** A sealed memory file: no process can change it. The caller owns its descriptor. */
interface MemoryFile {
  fd: number;
  sha256: string;
}

/** SHA-256 in base64. */
export function digest(bytes: Uint8Array): string {
  // To ask for the module takes half as long as to hash a small body.
  crypto ??= builtins.crypto;
  return crypto.hash("sha256", bytes, "base64");
}

let crypto: typeof builtins.crypto | undefined;

/** Loads what {@link digest} needs: in the turn of the first offer that would block the event loop for some milliseconds. */
export function prepareDigest(): void {
  digest(new Uint8Array());
}

/**
 * Writes bytes to a sealed memory file without blocking the event loop: other threads copy, and one piece is hashed while
 * the next is copied.
 *
 * @throws {HandoverError} `ERR_DESCRIPTOR`, or the system's error of a write
 */
export async function writeMemory(bytes: Uint8Array): Promise<MemoryFile> {
  const fd = check(native().memfdCreate("handover"), "make", "a memory file");
  try {
    const sha256 = await inPieces(bytes, (piece, position) => writeAll(fd, piece, position));
    check(native().memfdSeal(fd), "seal", "a memory file");
    return { fd, sha256 };
  } catch (error) {
    closeMemory(fd, bytes.length);
    throw error;
  }
}

/** Reads a sealed memory file of `size` bytes, and leaves it open. Undefined if it is not sealed, or shorter. */
export async function readMemory(
  fd: number,
  size: number,
): Promise<{ bytes: Uint8Array; sha256: string } | undefined> {
  if (native().memfdSealed(fd) !== 1) return undefined;
  const bytes = Buffer.allocUnsafeSlow(size);
  let isWhole = true;
  const sha256 = await inPieces(bytes, async (piece, position) => {
    isWhole &&= await readAll(fd, piece, position);
  });
  return isWhole ? { bytes, sha256 } : undefined;
}

/** The last close frees the file. That takes 200 ms for 1 GiB, so another thread does it. */
export function closeMemory(fd: number, size: number): void {
  if (size <= PIECE) native().close(fd);
  else close(fd, () => {});
}

/** Copies some pieces at a time, and hashes each while the next ones are copied. */
async function inPieces(
  bytes: Uint8Array,
  move: (piece: Uint8Array, position: number) => Promise<void>,
): Promise<string> {
  const sum = builtins.crypto.createHash("sha256");
  const moving: { piece: Uint8Array; moved: Promise<void> }[] = [];
  const finish = async (): Promise<void> => {
    const { piece, moved } = moving.shift()!;
    await moved;
    sum.update(piece);
  };
  try {
    for (let position = 0; position < bytes.length; position += PIECE) {
      const piece = bytes.subarray(position, position + PIECE);
      const moved = move(piece, position);
      // The rejection is handled in finish(), a few pieces later.
      moved.catch(() => {});
      moving.push({ piece, moved });
      if (moving.length > AHEAD) await finish();
    }
    while (moving.length > 0) await finish();
  } finally {
    // The descriptor must not be closed while other pieces are copied.
    await Promise.allSettled(moving.map(({ moved }) => moved));
  }
  return sum.digest("base64");
}

async function writeAll(fd: number, piece: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < piece.length;) {
    const { bytesWritten } = await writeTo(fd, piece, done, piece.length - done, position + done);
    done += bytesWritten;
  }
}

/** False at an early end. */
async function readAll(fd: number, piece: Uint8Array, position: number): Promise<boolean> {
  for (let done = 0; done < piece.length;) {
    const { bytesRead } = await readFrom(fd, piece, done, piece.length - done, position + done);
    if (bytesRead === 0) return false;
    done += bytesRead;
  }
  return true;
}

const writeTo = promisify(write);
const readFrom = promisify(read);

/** Bytes. To hash so many takes two milliseconds. */
const PIECE = 4 * 1024 * 1024;

/** Pieces that are copied while one is hashed; more would leave the event loop no processor. */
const AHEAD = 1;
