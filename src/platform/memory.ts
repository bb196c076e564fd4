import { join } from "node:path";
import { groupDirectories, readText } from "./cgroup.js";

/**
 * The memory of a process in bytes, also what was swapped out: its own, and its share of what it shares with others. Where
 * that may not be read: all that it has in memory. Undefined if it has exited.
 */
export function memoryOf(pid: number): number | undefined {
  const rollup = readFields(`/proc/${pid}/smaps_rollup`);
  const status = rollup.size > 0 ? rollup : readFields(`/proc/${pid}/status`);
  const names = rollup.size > 0 ? ["Pss", "SwapPss"] : ["VmRSS", "VmSwap"];
  return sum(status, names);
}

/**
 * The memory that only this process uses, in bytes: about what another process of the program needs. Where that may not be
 * read: all that it has in memory, without files.
 */
export function privateMemoryOf(pid: number): number | undefined {
  const rollup = readFields(`/proc/${pid}/smaps_rollup`);
  if (rollup.size > 0) return sum(rollup, ["Private_Clean", "Private_Dirty", "Swap"]);
  return sum(readFields(`/proc/${pid}/status`), ["RssAnon", "VmSwap"]);
}

/**
 * The memory that new processes can use, in bytes: what the system has for them, or less by a limit of this process's control
 * groups. Infinity where that is unknown.
 */
export function availableMemory(): number {
  const system = readFields("/proc/meminfo").get("MemAvailable") ?? Infinity;
  return Math.min(
    system,
    readRoom(readText("/proc/self/cgroup") ?? "", readText("/proc/self/mountinfo") ?? ""),
  );
}

/** The least room up to a limit of the control groups, in bytes; Infinity without a limit. */
export function readRoom(cgroup: string, mountinfo: string): number {
  const two = groupDirectories(cgroup, mountinfo, undefined).map((one) =>
    roomOf(one, "memory.max", "memory.current"),
  );
  const one = groupDirectories(cgroup, mountinfo, "memory").map((directory) =>
    roomOf(directory, "memory.limit_in_bytes", "memory.usage_in_bytes"),
  );
  return Math.min(Infinity, ...two, ...one);
}

/** The kernel takes the memory of files back before it ends a process. */
function roomOf(directory: string, limitFile: string, usageFile: string): number {
  const [limit, usage] = [limitFile, usageFile].map((file) =>
    Number(readText(join(directory, file))?.trim()),
  );
  // Version 2 writes "max" for no limit.
  if (!Number.isFinite(limit) || !Number.isFinite(usage)) return Infinity;
  const [, files = 0] =
    /^(?:total_)?inactive_file (\d+)$/m.exec(readText(join(directory, "memory.stat")) ?? "") ?? [];
  return Math.max(0, limit! - Math.max(0, usage! - Number(files)));
}

/** The lines `Name:  123 kB` of a file, in bytes; none if it cannot be read. */
function readFields(file: string): Map<string, number> {
  const found = (readText(file) ?? "").matchAll(/^(\w+): +(\d+) kB$/gm);
  return new Map(Array.from(found, ([, name, kib]) => [name!, Number(kib) * 1_024]));
}

function sum(fields: ReadonlyMap<string, number>, names: readonly string[]): number | undefined {
  const values = names.flatMap((name) => fields.get(name) ?? []);
  return values.length === 0 ? undefined : values.reduce((all, one) => all + one, 0);
}
