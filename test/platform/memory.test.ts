import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { availableMemory, memoryOf, privateMemoryOf, readRoom } from "../../dist/platform/memory.js";
import { temporaryDirectory } from "../support/service.js";

test("reads the memory of a process, of which a part is its own", () => {
  const all = memoryOf(process.pid)!;
  const held = Buffer.alloc(64 * 2 ** 20, 1);
  expect(memoryOf(process.pid)!).toBeGreaterThan(all + held.length / 2);
  expect(privateMemoryOf(process.pid)!).toBeGreaterThan(held.length);
  expect(memoryOf(process.pid)!).toBeLessThan(2 ** 40);
});

test("a process that does not exist has no memory", () => {
  expect([memoryOf(2 ** 30), privateMemoryOf(2 ** 30)]).toEqual([undefined, undefined]);
});

test("reads the memory that new processes can use", () => {
  expect(availableMemory()).toBeGreaterThan(2 ** 20);
});

test.each([
  ["version 2", "cgroup2 cgroup2 rw", "0::/a", "memory.max", "memory.current", "inactive_file 30"],
  [
    "version 1",
    "cgroup cgroup rw,memory",
    "5:memory:/a",
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    "total_inactive_file 30",
  ],
])(
  "the least room of the control groups of %s counts, and what files hold is room",
  (_, type, group, limit, usage, stat) => {
    const point = temporaryDirectory();
    mkdirSync(join(point, "a"));
    const mountinfo = `1 1 0:1 / ${point} rw - ${type}`;
    expect(readRoom(group, mountinfo)).toBe(Infinity);
    writeFileSync(join(point, limit), "max\n");
    writeFileSync(join(point, usage), "5\n");
    expect(readRoom(group, mountinfo)).toBe(Infinity);
    writeFileSync(join(point, "a", limit), "100\n");
    writeFileSync(join(point, "a", usage), "70\n");
    expect(readRoom(group, mountinfo)).toBe(30);
    writeFileSync(join(point, "a", "memory.stat"), `anon 40\n${stat}\n`);
    expect(readRoom(group, mountinfo)).toBe(60);
  },
);
