import { createHash, hash } from "node:crypto";
import { close, read, write } from "node:fs";
import { promisify } from "node:util";
import { check, native } from "../platform/native.js";

/** Bytes that travel inside a message; what is larger travels as a memory file. */
export const MAX_INLINE = 64 * 1024;

/** A memory file that nobody can change any more; the caller owns its descriptor. */
interface MemoryFile {
  fd: number;
  sha256: string;
}

/** SHA-256 in base64. */
export function digest(bytes: Uint8Array): string {
  return hash("sha256", bytes, "base64");
}

/**
 * Writes bytes to a sealed memory file. The event loop goes on: the copying is done by other threads, and the hash
 * is taken of one piece while the next is copied.
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

/** Reads a sealed memory file of `size` bytes, and leaves it open. Undefined if it is none, or not of that size. */
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

/** Whoever closes a memory file last frees it: of 1 GiB that takes 200 ms, which other threads have. */
export function closeMemory(fd: number, size: number): void {
  if (size <= PIECE) native().close(fd);
  else close(fd, () => {});
}

/** Moves some pieces at a time, and takes the hash of each while the next ones move. */
async function inPieces(
  bytes: Uint8Array,
  move: (piece: Uint8Array, position: number) => Promise<void>,
): Promise<string> {
  const sum = createHash("sha256");
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
      // It is heard when its turn comes.
      moved.catch(() => {});
      moving.push({ piece, moved });
      if (moving.length > AHEAD) await finish();
    }
    while (moving.length > 0) await finish();
  } finally {
    // The descriptor is not closed under those that still move.
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

/** Bytes: a hash of so many takes two milliseconds. */
const PIECE = 4 * 1024 * 1024;

/** Pieces that move while the hash of one is taken; more would leave the event loop no processor. */
const AHEAD = 1;
