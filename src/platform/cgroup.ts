import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join, relative } from "node:path";

/**
 * The directories of a control group and of its ancestors, from the contents of `cgroup` and `mountinfo` of proc(5): each may
 * have a limit. Versions 1 and 2 may be mounted together.
 *
 * @param controller of version 1; undefined: the hierarchy of version 2
 */
export function groupDirectories(
  cgroup: string,
  mountinfo: string,
  controller: string | undefined,
): string[] {
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

/**
 * The processors that this process can keep busy, at least 1: those that the system gives it, or fewer by a quota of its
 * control groups, as a container has one. A part of a processor does not count: newer versions of Node round down, too.
 */
export function usableProcessors(): number {
  const quota = readQuota(readText("/proc/self/cgroup") ?? "", readText("/proc/self/mountinfo") ?? "");
  return Math.max(1, Math.floor(Math.min(availableParallelism(), quota)));
}

/** The smallest quota of the control groups, in processors; Infinity without one. */
export function readQuota(cgroup: string, mountinfo: string): number {
  const two = groupDirectories(cgroup, mountinfo, undefined).map((one) => {
    const [quota, period] = (readText(join(one, "cpu.max")) ?? "").split(/\s+/);
    return ratio(quota, period);
  });
  const one = groupDirectories(cgroup, mountinfo, "cpu").map((directory) => {
    const [quota, period] = ["cpu.cfs_quota_us", "cpu.cfs_period_us"].map((file) =>
      readText(join(directory, file)),
    );
    return ratio(quota, period);
  });
  return Math.min(Infinity, ...two, ...one);
}

/** Version 2 writes "max" for no limit, version 1 writes -1. */
function ratio(quota: string | undefined, period: string | undefined): number {
  const processors = Number(quota) / Number(period);
  return processors > 0 ? processors : Infinity;
}

/** The content of a file of `/proc` or `/sys`; undefined if it cannot be read. */
export function readText(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}
