import { HandoverError } from "../errors.js";
import type { Phase } from "../control/protocol.js";
import type { Timings } from "../events.js";
import { count, duration, repaint, writeText } from "./output.js";

/** Adds that the old process keeps serving, which is the first thing to know after a failure. */
export function withServingPid(error: unknown, pid: number): unknown {
  if (!(error instanceof HandoverError) || !HARMLESS.has(error.code)) return error;
  return new HandoverError(error.code, `${error.message}; pid ${pid} keeps serving`, { cause: error });
}

const HARMLESS = new Set<HandoverError["code"]>([
  "ERR_CHILD_EXITED",
  "ERR_MANAGER",
  "ERR_PROTOCOL",
  "ERR_ROLLED_BACK",
  "ERR_SPAWN",
  "ERR_UPGRADE_TIMEOUT",
]);

/** Prints the phases for people. On a terminal, a phase that takes long shows for how long. */
export class Progress {
  /** When the request was about to be sent, in ms since this command was started. */
  readonly #start = performance.now();
  #ticking: NodeJS.Timeout | undefined;
  /** Of a supervisor; undefined for any other process. */
  #workers: number | undefined;

  show(phase: Phase): void {
    this.end();
    switch (phase.phase) {
      case "spawned":
        this.#workers = phase.workers;
        writeText(
          step(phase.staged ? "staged" : "spawned", `${startedBy(phase)}, generation ${phase.generation}`),
        );
        return phase.staged ? undefined : this.#tick("initializing");
      case "worker-ready":
        if (phase.ready === phase.workers) return undefined;
        return this.#tick(`initializing: ${phase.ready} of ${phase.workers} are ready`);
      case "unstaged":
        return writeText(
          step(
            "unstaged",
            `${startedBy(phase)} ${phase.workers === undefined ? "is" : "are"} not used: ${phase.reason}`,
          ),
        );
      case "committed":
        writeText(step("ready", `after ${duration(phase.timings.spawn + phase.timings.ready)}`));
        if (phase.staged) writeText(step("took", this.#describeTime(phase.timings)));
        return writeText(step("committed", `new connections go to the new ${this.#name}`));
      case "draining":
        writeText(step("draining", `${count(phase.connections, "connection")} of the old ${this.#name}`));
        writeText(step("probation", this.#describeProbation()));
        return this.#tick("probation");
      case "joined":
        return writeText(step("joined", `worker ${phase.index}, pid ${phase.pid}, accepts`));
      case "leaving":
        return writeText(step("leaving", `worker ${phase.index}, pid ${phase.pid}, moves what it has`));
      default:
        // The process may run a later version.
        return undefined;
    }
  }

  /** The command itself, most of it the start of Node, takes longer than the upgrade. */
  #describeTime({ spawn, ready, commit }: Timings): string {
    return `${duration(spawn + ready + commit)} from the request to the commit; ${duration(this.#start)} before it for this command`;
  }

  get #name(): string {
    return this.#workers === undefined ? "process" : "workers";
  }

  #describeProbation(): string {
    return this.#workers === undefined
      ? "if the new process dies now, the old one takes over again"
      : "if a new worker dies now, the old workers take over again";
  }

  end(): void {
    clearInterval(this.#ticking);
    repaint("");
  }

  #tick(what: string): void {
    const start = performance.now();
    const paintNow = (): void =>
      repaint(step(what, `${Math.round((performance.now() - start) / 1_000)} s …`));
    paintNow();
    this.#ticking = setInterval(paintNow, 1_000);
  }
}

/** Who was started: a process, or the workers of a supervisor. */
export function startedBy({ pid, workers }: { pid?: number; workers?: number }): string {
  return workers === undefined ? `pid ${pid}` : count(workers, "new worker");
}

export function step(name: string, text: string): string {
  return `  ${name.padEnd(12)} ${text}`;
}
