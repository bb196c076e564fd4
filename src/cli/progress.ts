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

  show(phase: Phase): void {
    this.end();
    switch (phase.phase) {
      case "spawned":
        writeText(
          step(phase.staged ? "staged" : "spawned", `pid ${phase.pid}, generation ${phase.generation}`),
        );
        return phase.staged ? undefined : this.#tick("initialising");
      case "unstaged":
        return writeText(step("unstaged", `pid ${phase.pid} is not used: ${phase.reason}`));
      case "committed":
        writeText(step("ready", `after ${duration(phase.timings.spawn + phase.timings.ready)}`));
        if (phase.staged) writeText(step("took", this.#describeTime(phase.timings)));
        return writeText(step("committed", "new connections go to the new process"));
      case "draining":
        writeText(step("draining", `${count(phase.connections, "connection")} of the old process`));
        writeText(step("probation", "if the new process dies now, the old one takes over again"));
        return this.#tick("probation");
      default:
        // The process may run a later version.
        return undefined;
    }
  }

  /** The command itself, most of it the start of Node, takes longer than the upgrade. */
  #describeTime({ spawn, ready, commit }: Timings): string {
    return `${duration(spawn + ready + commit)} from the request to the commit; ${duration(this.#start)} before it for this command`;
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

export function step(name: string, text: string): string {
  return `  ${name.padEnd(12)} ${text}`;
}
