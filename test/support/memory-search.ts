import { closeSync, openSync, readFileSync, readSync } from "node:fs";

/** How often each of these sequences of bytes is in the memory of another process: in all that the process may write to. */
export function countInMemory(pid: number, needles: readonly Buffer[]): number[] {
  const [memory, pages] = [openSync(`/proc/${pid}/mem`, "r"), openSync(`/proc/${pid}/pagemap`, "r")];
  const counts = needles.map(() => 0);
  const overlap = Math.max(...needles.map(({ length }) => length)) - 1;
  try {
    for (const [from, to] of writableRanges(pid)) {
      let kept = Buffer.alloc(0);
      for (let at = from; at < to; at += PIECE) {
        // Half a gigabyte may be reserved that was never written: to read it would take a second.
        const size = isUsed(pages, at, to) ? Math.min(PIECE, to - at) : 0;
        const bytes = Buffer.concat([kept, readFrom(memory, at, size)]);
        for (const [n, needle] of needles.entries()) counts[n]! += countIn(bytes, needle, kept.length);
        kept = size === 0 ? Buffer.alloc(0) : bytes.subarray(-overlap);
      }
    }
    return counts;
  } finally {
    closeSync(memory);
    closeSync(pages);
  }
}

/** Those that end behind the first `known` bytes. */
function countIn(bytes: Buffer, needle: Buffer, known: number): number {
  let count = 0;
  for (let at = bytes.indexOf(needle); at >= 0; at = bytes.indexOf(needle, at + 1)) {
    if (at + needle.length > known) count++;
  }
  return count;
}

function writableRanges(pid: number): [number, number][] {
  const lines = readFileSync(`/proc/${pid}/maps`, "utf8").split("\n");
  return lines.flatMap((line): [number, number][] => {
    const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw.. /.exec(line) ?? [];
    return from === undefined ? [] : [[parseInt(from, 16), parseInt(to!, 16)]];
  });
}

/** Whether the process has any page of the piece, or has swapped one: each has eight bytes, the upper two bits of which say so. */
function isUsed(pages: number, at: number, to: number): boolean {
  const count = (Math.min(PIECE, to - at) / PAGE) * 8;
  const entries = readFrom(pages, (at / PAGE) * 8, count);
  return entries.some((byte, n) => n % 8 === 7 && byte >= 0x40);
}

/** Less where there is nothing to read. */
function readFrom(file: number, position: number, size: number): Buffer {
  const bytes = Buffer.alloc(size);
  try {
    return bytes.subarray(0, readSync(file, bytes, 0, size, position));
  } catch {
    return bytes.subarray(0, 0);
  }
}

/** Bytes. */
const PAGE = 4_096;
const PIECE = 256 * PAGE;
