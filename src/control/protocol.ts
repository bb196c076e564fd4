import type { HandoverError } from "../errors.js";
import type { Rehearsal, Timings, UpgradeRecord } from "../events.js";
import type { Outcome } from "../lifecycle.js";
import type { Settings } from "../options.js";
import type { NextCommand } from "../process/command.js";

/*
 * What passes over the control socket: one JSON object a line. The server greets, the client asks once, the
 * server tells of phases and then ends with one answer. Unknown fields are ignored.
 */

/** Of the control socket: it answers only its own user and root. */
export const CONTROL_SOCKET_MODE = 0o600;

interface Greeting {
  /** The version of handover. */
  handover: string;
  pid: number;
}

export type Request =
  | { command: "status" }
  | { command: "stop" }
  /** `timeout` in ms, to give up earlier than the process's own `upgradeTimeout`. */
  | { command: "upgrade"; timeout?: number }
  | { command: "rehearse"; timeout?: number };

export type Phase =
  | { phase: "spawned"; pid: number; generation: number }
  | { phase: "committed"; pid: number; generation: number; timings: Timings }
  /** After a commit, probation begins, too. */
  | { phase: "draining"; connections: number };

export type Answer =
  | { answer: "status"; status: Status }
  | { answer: "stopped"; outcome: Outcome; destroyed: number }
  | { answer: "upgraded"; pid: number; generation: number; timings: Timings }
  | ({ answer: "rehearsed" } & Rehearsal)
  | { answer: "failed"; code: HandoverError["code"]; message: string };

export interface Status {
  state: "starting" | "ready" | "upgrading" | "draining" | "exited";
  generation: number;
  pid: number;
  /** s since this process started. */
  uptime: number;
  version: string;
  node: string;
  /** What is handed on: its name and, where it is bound to one, its address; and whether a socket unit has `passed` it. */
  listeners: { name: string; address?: string; passed?: true }[];
  connections: number;
  /** Generations that still drain; what one did not tell in time is left out. */
  predecessors: {
    generation: number;
    pid: number;
    connections?: number;
    moved?: number;
    remaining?: number;
  }[];
  /** The last ones, the newest last; an earlier version does not tell. */
  upgrades?: readonly UpgradeRecord[];
  /** The options of `new Upgrader()`; an earlier version does not tell. */
  settings?: Omit<Settings, "spawn" | "computesSpawn">;
  /** What would be started. Left out where the option `spawn` is a function: that is called for an upgrade only. */
  command?: NextCommand | undefined;
}

/** The longest line either side reads, in characters. */
const MAX_LINE = 64 * 1024;

/** Cuts a stream into lines; `onLine` gets each as an object, `onNonsense` the first that is none. */
export function readLines(
  stream: NodeJS.ReadableStream,
  onLine: (value: Record<string, unknown>) => void,
  onNonsense: () => void,
): void {
  let rest = "";
  stream.setEncoding("utf8");
  stream.on("data", (chunk: string) => {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    const values = lines.map(parseLine);
    if (rest.length > MAX_LINE || values.includes(undefined)) {
      rest = "";
      return onNonsense();
    }
    for (const value of values) onLine(value!);
  });
}

export function writeLine(stream: NodeJS.WritableStream, value: Greeting | Request | Phase | Answer): void {
  stream.write(`${JSON.stringify(value)}\n`);
}

function parseLine(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
