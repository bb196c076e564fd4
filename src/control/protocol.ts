import type { WorkerHosts } from "../channel/messages.js";
import type { EngineReport, HostsStatus } from "../exchange/hosts.js";
import type { HandoverError } from "../errors.js";
import type { DrainSummary, Rehearsal, Staged, Timings, UpgradeRecord, UpgradeResult } from "../events.js";
import type { Outcome } from "../lifecycle.js";
import type { Totals } from "../metrics/totals.js";
import type { Settings } from "../options.js";
import type { NextCommand } from "../process/command.js";

/*
 * The protocol of the control socket: one JSON object per line. The server greets, the client sends one request, and
 * the server reports phases and then one answer. Unknown fields are ignored.
 */

/** The control socket answers only its own user and root. */
export const CONTROL_SOCKET_MODE = 0o600;

interface Greeting {
  /** The version of handover. */
  handover: string;
  pid: number;
}

export type Request =
  | { command: "status" }
  /** Looks at the engine of the hosts. */
  | { command: "inspect" }
  | { command: "stop" }
  /** `timeout` in ms shortens the process's own `upgradeTimeout`. `force` upgrades under a process manager, too. */
  | { command: "upgrade"; timeout?: number; force?: true }
  | { command: "rehearse"; timeout?: number; force?: true }
  /** The successor waits for `ttl` ms, by default for as long as `stage()` lets it. */
  | { command: "stage"; timeout?: number; ttl?: number; force?: true }
  | { command: "unstage" }
  /** Replaces the program of a supervisor itself. */
  | { command: "upgrade-supervisor" }
  /** Only of a supervisor: changes the number of workers. */
  | { command: "scale"; workers: number }
  /** Only of a supervisor: replaces the worker of this index; without an index each one, one at a time. */
  | { command: "restart"; index?: number; timeout?: number };

export type Phase =
  /** `staged`: it had been started before. `workers`: a supervisor, whose PID this is, starts so many. */
  | { phase: "spawned"; pid: number; generation: number; staged?: true; workers?: number }
  /** Of a supervisor: one more of its new workers is ready. */
  | { phase: "worker-ready"; ready: number; workers: number }
  /** The successor that had been staged is not used. */
  | { phase: "unstaged"; pid: number; generation: number; workers?: number; reason: string }
  | {
      phase: "committed";
      pid: number;
      generation: number;
      timings: Timings;
      staged: boolean;
      workers?: number;
    }
  /** After a commit, probation begins at the same time. */
  | { phase: "draining"; connections: number }
  | ScalePhase;

/** A worker accepts that is new; or one that leaves moves what it has to another one. */
export interface ScalePhase {
  phase: "joined" | "leaving";
  index: number;
  pid: number;
}

export type Answer =
  | { answer: "status"; status: Status }
  /** Without a report if the process is not one of several hosts, or its workers do not answer. */
  | { answer: "inspected"; report?: EngineReport }
  | ({ answer: "stopped"; outcome: Outcome } & DrainSummary)
  | ({ answer: "upgraded" } & Omit<UpgradeResult, "settled">)
  | ({ answer: "rehearsed" } & Rehearsal)
  | ({ answer: "staged" } & Staged)
  /** Without fields if none was staged. */
  | ({ answer: "unstaged" } & Partial<Staged>)
  /** The number of workers before and now. */
  | { answer: "scaled"; from: number; workers: number }
  | ({ answer: "restarted" } & Omit<UpgradeResult, "settled">)
  /** The next version can go on, and is about to: {@link Status.replacement} with this number says how that ended. */
  | { answer: "replacing"; number: number; version: string }
  | { answer: "failed"; code: HandoverError["code"]; message: string };

export interface Status {
  state: "starting" | "ready" | "upgrading" | "draining" | "exited";
  generation: number;
  pid: number;
  /** in s, since this process started */
  uptime: number;
  version: string;
  node: string;
  /**
   * Descriptors that a successor inherits. `passed` means that a socket unit of systemd has passed the socket; `unsteered` that
   * the kernel, and not the supervisor, chooses the worker of a connection.
   */
  listeners: { name: string; address?: string; passed?: true; unsteered?: true }[];
  connections: number;
  /** Resident, in bytes. Earlier versions leave it out. */
  memory?: number;
  /** Generations that have not exited yet. A field that one of them did not report in time is left out. */
  predecessors: {
    generation: number;
    pid: number;
    connections?: number;
    moved?: number;
    remaining?: number;
    /** It has drained, and waits until a rollback is impossible. */
    drained?: boolean;
  }[];
  /** The successor that is held for a later upgrade. */
  staged?: Staged;
  /** The other hosts of the service, if it has the option `exchange`. `morePeers`: how many are left out of `peers`. */
  hosts?: HostsStatus & { morePeers?: number };
  /** The last upgrades, the newest last. Earlier versions leave it out. */
  upgrades?: readonly UpgradeRecord[];
  /** The options of `new Upgrader()`; of a supervisor, those that it has as well. Earlier versions leave them out. */
  settings?: Partial<Omit<Settings, "spawn" | "computesSpawn" | "exchange">>;
  /** The names of other listeners for the signal that requests an upgrade. Earlier versions leave them out. */
  signalListeners?: string[];
  /** How the last upgrade of the supervisor itself ended; absent if there was none. `reason`: why the former version goes on. */
  replacement?: { number: number; reason?: string };
  /** The name of a service that a supervisor runs. */
  name?: string;
  /** The workers of a supervisor, by index. */
  workers?: WorkerStatus[];
  /** Of a service that a supervisor runs, since the supervisor has started. */
  totals?: Totals;
  /**
   * The command of the next successor, or of the next workers. Left out if the option `spawn` is a function, which only an upgrade may call.
   */
  command?: NextCommand | undefined;
}

/** One worker of a supervisor. */
export interface WorkerStatus {
  index: number;
  /**
   * `draining`: it no longer accepts. `waiting`: its process has died, and is started again soon. `failed`: it is not started
   * again.
   */
  state: "starting" | "ready" | "draining" | "waiting" | "failed";
  pid?: number;
  generation?: number;
  /** in s, since its process started */
  uptime?: number;
  connections?: number;
  /** Resident, in bytes. */
  memory?: number;
  /** The processor time that its process has used, in ms. */
  cpu?: number;
  /** ms since its last heartbeat. */
  silence?: number;
  /** How often it was started again. */
  restarts: number;
  /** Why its last process died. */
  lastExit?: string;
  /** It holds the roles. */
  roles?: true;
  /** Its part in a service on several hosts. */
  hosts?: WorkerHosts;
}

/** Characters of the longest line that either side reads: a status with ten upgrades that failed for long reasons. */
const MAX_LINE = 256 * 1024;

/**
 * Splits what arrives into lines. Calls `onLine` with the object of each line, and `onInvalid` at the first line without
 * one.
 *
 * @returns takes the next piece of text
 */
export function lineReader(
  onLine: (value: Record<string, unknown>) => void,
  onInvalid: () => void,
): (text: string) => void {
  let rest = "";
  return (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    const values = lines.map(parseLine);
    if (rest.length > MAX_LINE || values.includes(undefined)) {
      rest = "";
      return onInvalid();
    }
    for (const value of values) onLine(value!);
  };
}

/** {@link lineReader} for a stream. */
export function readLines(stream: NodeJS.ReadableStream, ...handlers: Parameters<typeof lineReader>): void {
  stream.setEncoding("utf8");
  stream.on("data", lineReader(...handlers));
}

export function writeLine(
  to: { write(text: string): unknown },
  value: Greeting | Request | Phase | Answer,
): void {
  to.write(`${JSON.stringify(value)}\n`);
}

function parseLine(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
