import { join } from "node:path";
import { groupDirectories, readText } from "../../platform/cgroup.js";

/** The memory and tasks that are left for one more process. */
export interface Capacity {
  /** in bytes: memory of the machine that is available */
  available: number | undefined;
  /** in bytes: the tightest limit of the control groups of the process */
  memory: Level | undefined;
  /** in bytes: above it the kernel slows the group down */
  throttle: Level | undefined;
  /** in processes and threads */
  tasks: Level | undefined;
}

/** A limit, and how much of it is used. */
export interface Level {
  limit: number;
  used: number;
  /** The file that sets the limit. */
  file: string;
}

/** The capacity that is left to a process. */
export function readCapacity(pid: number | "self"): Capacity {
  const [, available] = /^MemAvailable: +(\d+) kB/m.exec(readText("/proc/meminfo") ?? "") ?? [];
  return {
    available: available === undefined ? undefined : Number(available) * 1_024,
    ...readLevels(readText(`/proc/${pid}/cgroup`) ?? "", readText("/proc/self/mountinfo") ?? ""),
  };
}

/**
 * Reads the limits from the contents of `cgroup` and `mountinfo` of proc(5). Versions 1 and 2 may be mounted
 * together.
 */
export function readLevels(
  cgroup: string,
  mountinfo: string,
): Pick<Capacity, "memory" | "throttle" | "tasks"> {
  const two = groupDirectories(cgroup, mountinfo, undefined);
  const memory = groupDirectories(cgroup, mountinfo, "memory");
  const pids = groupDirectories(cgroup, mountinfo, "pids");
  return {
    memory: tightest([
      ...two.map((one) => level(one, "memory.max", "memory.current", "inactive_file")),
      ...memory.map((one) =>
        level(one, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
      ),
    ]),
    throttle: tightest(two.map((one) => level(one, "memory.high", "memory.current", "inactive_file"))),
    tasks: tightest([...two, ...pids].map((one) => level(one, "pids.max", "pids.current"))),
  };
}

/** Page cache that the kernel can drop does not count as used. */
function level(directory: string, limitFile: string, usageFile: string, cache?: string): Level | undefined {
  const file = join(directory, limitFile);
  const limit = Number(readText(file)?.trim() ?? Number.NaN);
  const used = Number(readText(join(directory, usageFile)) ?? Number.NaN);
  // Version 2 writes "max" for no limit, version 1 the largest number.
  if (!Number.isFinite(limit) || !Number.isFinite(used) || limit > Number.MAX_SAFE_INTEGER / 2)
    return undefined;
  const stat = cache === undefined ? "" : (readText(join(directory, "memory.stat")) ?? "");
  const [, dropped = "0"] = new RegExp(`^${cache} (\\d+)$`, "m").exec(stat) ?? [];
  return { limit, used: Math.max(0, used - Number(dropped)), file };
}

function tightest(levels: readonly (Level | undefined)[]): Level | undefined {
  const known = levels.filter((one) => one !== undefined);
  return known.toSorted((a, b) => a.limit - a.used - (b.limit - b.used))[0];
}
