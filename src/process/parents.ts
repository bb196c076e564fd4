import { readlinkSync } from "node:fs";
import { basename } from "node:path";
import { HandoverError } from "../errors.js";
import { ancestorsOf, readStat, type Ancestor } from "../platform/proc.js";

/**
 * @param isFirst whether this is the first generation
 * @throws {HandoverError} `ERR_MANAGER` under a process manager, for which an upgrade is the end of the service
 */
export function assertNoManager(doing: string, isFirst: boolean): void {
  const manager = detectProcessManager(process.env, ancestorsOf("self", 3), isFirst);
  if (manager === undefined) return;
  const why = `it runs under ${manager}, which would start or kill the service again; start the program with node, or force the upgrade`;
  throw new HandoverError("ERR_MANAGER", `cannot ${doing}: ${why}`);
}

/**
 * Warns under a process manager, and under a parent that waits for this process.
 *
 * @param isFirst whether this is the first generation: a successor's parent is its predecessor
 */
export function warnAboutParents(isFirst: boolean): void {
  const ancestors = ancestorsOf("self", 3);
  const manager = detectProcessManager(process.env, ancestors, isFirst);
  const waiting = isFirst ? findWaitingParent("self", ancestors) : undefined;
  const message =
    manager !== undefined
      ? `handover cannot work under ${manager}: it watches the process that it started itself, so after an upgrade it ` +
        "takes the service for dead, and starts or kills it again. Start the program with node."
      : waiting !== undefined
        ? `${describeParent(waiting)} waits for this process, and takes the first upgrade for the end of the service: it ` +
          "ends too, or starts the program again. Start the program with node."
        : undefined;
  if (message !== undefined) process.emitWarning(message, { code: "HANDOVER_MANAGER" });
}

/**
 * The manager by name, from the environment and the ancestors of a process, nearest first.
 *
 * @param isFirst whether the process is the first generation: only that one is the child of a supervisor
 */
export function detectProcessManager(
  env: NodeJS.ProcessEnv,
  ancestors: readonly Ancestor[],
  isFirst: boolean,
): string | undefined {
  if (env["pm_id"] !== undefined && env["PM2_HOME"] !== undefined) return "PM2";
  if (env["WATCH_REPORT_DEPENDENCIES"] !== undefined) return "node --watch";
  // nodemon may have a shell between it and the program.
  const nearest = ancestors.slice(0, 3);
  for (const [name, command] of WATCHERS) {
    if (nearest.some(({ words }) => command.test(words.slice(0, 3).join("\n")))) return name;
  }
  return isFirst ? nearest.slice(0, 2).find(({ name }) => SUPERVISORS.has(name))?.name : undefined;
}

/** Programs that start the service again when a file changes, by their first words, one a line. */
const WATCHERS: readonly (readonly [name: string, command: RegExp])[] = [
  ["nodemon", /(^|\/)nodemon(\.js)?$/m],
  ["tsx watch", /(^|\/)tsx(\/dist\/cli\.mjs)?\nwatch$/m],
];

const SUPERVISORS = new Set([
  "supervisord",
  "runsv",
  "s6-supervise",
  "supervise",
  "circusd",
  "forever",
  "foreman",
]);

/**
 * The parent that waits for the end of a process: an init of a container, or a Node whose group and output the process
 * shares, as it does under npm, tsx, dotenv-cli and others. A Node that keeps its child apart does something else with it.
 */
export function findWaitingParent(
  pid: number | "self",
  ancestors: readonly Ancestor[],
): Ancestor | undefined {
  // `npm start` runs its command by a shell, which waits as well.
  const parent = ancestors.find(({ words }) => !/^-[a-z]*c$/.test(words[1] ?? ""));
  if (parent === undefined) return undefined;
  return INITS.has(parent.name) || (isNode(parent.pid) && isSharing(pid, parent.pid)) ? parent : undefined;
}

/** Programs that end with their child. */
export const INITS: ReadonlySet<string> = new Set([
  "tini",
  "docker-init",
  "dumb-init",
  "catatonit",
  "podman-init",
]);

/** Its program and the first argument, for a message; the others may have secrets. */
export function describeParent({ words, name, pid }: Ancestor): string {
  const given = words.filter((word) => word !== "");
  // A title, as npm sets one, is a single word; any other blank is part of a path.
  const [program = name, ...rest] = given.length === 1 ? given[0]!.split(" ") : given;
  return `${[program, ...rest.slice(0, 1)].map((word) => basename(word)).join(" ")} (pid ${pid})`;
}

function isNode(pid: number): boolean {
  try {
    return /^node(js)?[\d.]*$/.test(basename(readlinkSync(`/proc/${pid}/exe`)).replace(/ \(deleted\)$/, ""));
  } catch {
    // It belongs to another user, so it is no wrapper of this program.
    return false;
  }
}

function isSharing(pid: number | "self", parent: number): boolean {
  try {
    return groupAndOutput(pid) === groupAndOutput(parent);
  } catch {
    return false;
  }
}

/** The field `pgrp` of proc(5)'s stat, and the file that is stdout. */
function groupAndOutput(pid: number | "self"): string {
  return `${readStat(pid)[2]} ${readlinkSync(`/proc/${pid}/fd/1`)}`;
}
