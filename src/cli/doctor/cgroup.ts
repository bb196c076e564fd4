import { readFileSync } from "node:fs";
import { join, relative } from "node:path";

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
  const [, available] = /^MemAvailable: +(\d+) kB/m.exec(read("/proc/meminfo") ?? "") ?? [];
  return {
    available: available === undefined ? undefined : Number(available) * 1_024,
    ...readLevels(read(`/proc/${pid}/cgroup`) ?? "", read("/proc/self/mountinfo") ?? ""),
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
  const two = directories(cgroup, mountinfo, undefined);
  const memory = directories(cgroup, mountinfo, "memory");
  const pids = directories(cgroup, mountinfo, "pids");
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

/** The directories of the group and of its ancestors: each may have a limit. */
function directories(cgroup: string, mountinfo: string, controller: string | undefined): string[] {
  const mount = mountinfo
    .split("\n")
    .map(parseMount)
    .find((one) => holds(one, controller));
  const path = cgroup
    .split("\n")
    .map(parseGroup)
    .find((one) => holds(one, controller))?.path;
  if (mount === undefined || path === undefined) return [];
  // A path outside the mount belongs to another namespace.
  const inside = relative(mount.root, path);
  const steps = inside === "" || inside.startsWith("..") ? [] : inside.split("/");
  return [mount.point, ...steps.map((_, n) => join(mount.point, ...steps.slice(0, n + 1)))];
}

/** Version 1 has a hierarchy for each controller; in the one of version 2 `controllers` is undefined. */
interface Hierarchy {
  controllers: string[] | undefined;
}

function holds({ controllers }: Hierarchy, controller: string | undefined): boolean {
  return controller === undefined ? controllers === undefined : controllers?.includes(controller) === true;
}

function parseMount(line: string): Hierarchy & { root: string; point: string } {
  const [before = "", after = ""] = line.split(" - ");
  const [, , , root = "", point = ""] = before.split(" ");
  const [type = "", , options = ""] = after.split(" ");
  return {
    root,
    point,
    controllers: type === "cgroup2" ? undefined : type === "cgroup" ? options.split(",") : [],
  };
}

function parseGroup(line: string): Hierarchy & { path: string } {
  const [, id, controllers = "", path = ""] = /^(\d+):(.*?):(.*)$/.exec(line) ?? [];
  return { path, controllers: id === "0" ? undefined : controllers.split(",") };
}

/** Page cache that the kernel can drop does not count as used. */
function level(directory: string, limitFile: string, usageFile: string, cache?: string): Level | undefined {
  const file = join(directory, limitFile);
  const limit = Number(read(file)?.trim() ?? Number.NaN);
  const used = Number(read(join(directory, usageFile)) ?? Number.NaN);
  // Version 2 writes "max" for no limit, version 1 the largest number.
  if (!Number.isFinite(limit) || !Number.isFinite(used) || limit > Number.MAX_SAFE_INTEGER / 2)
    return undefined;
  const stat = cache === undefined ? "" : (read(join(directory, "memory.stat")) ?? "");
  const [, dropped = "0"] = new RegExp(`^${cache} (\\d+)$`, "m").exec(stat) ?? [];
  return { limit, used: Math.max(0, used - Number(dropped)), file };
}

function tightest(levels: readonly (Level | undefined)[]): Level | undefined {
  const known = levels.filter((one) => one !== undefined);
  return known.toSorted((a, b) => a.limit - a.used - (b.limit - b.used))[0];
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}
