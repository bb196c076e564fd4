import { readFileSync } from "node:fs";
import { join, relative } from "node:path";

/** What is left for one more process. */
export interface Capacity {
  /** Bytes of memory that the machine can still give. */
  available: number | undefined;
  /** Bytes; the tightest of the control groups that the process is in. */
  memory: Level | undefined;
  /** Bytes; above it the kernel slows the group down. */
  throttle: Level | undefined;
  /** Processes and threads. */
  tasks: Level | undefined;
}

/** A limit that somebody has set. */
export interface Level {
  limit: number;
  used: number;
  /** The file that says so. */
  file: string;
}

/** What is left to a process, or to this one. */
export function readCapacity(pid: number | "self"): Capacity {
  const [, available] = /^MemAvailable: +(\d+) kB/m.exec(read("/proc/meminfo") ?? "") ?? [];
  return {
    available: available === undefined ? undefined : Number(available) * 1_024,
    ...readLevels(read(`/proc/${pid}/cgroup`) ?? "", read("/proc/self/mountinfo") ?? ""),
  };
}

/** From proc(5)'s `cgroup` of a process and `mountinfo`: version 1 and 2 may be there at the same time. */
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

/** The group's directory and those above it: each may have a limit. */
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
  // A path outside of what is mounted is seen from another namespace.
  const inside = relative(mount.root, path);
  const steps = inside === "" || inside.startsWith("..") ? [] : inside.split("/");
  return [mount.point, ...steps.map((_, n) => join(mount.point, ...steps.slice(0, n + 1)))];
}

/** Of version 1, which has a hierarchy for each controller; undefined for the one of version 2. */
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

/** What can be dropped from the page cache is not counted as used. */
function level(directory: string, limitFile: string, usageFile: string, cache?: string): Level | undefined {
  const file = join(directory, limitFile);
  const limit = Number(read(file)?.trim() ?? Number.NaN);
  const used = Number(read(join(directory, usageFile)) ?? Number.NaN);
  // "max" is no number; version 1 has the largest one instead.
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
