import { Command } from "commander";
import { HandoverError } from "../errors.js";
import type { ControlClient } from "../control/client.js";
import type { Phase, Request } from "../control/protocol.js";
import { count, duration, paint, repaint, writeJson, writeText } from "./output.js";
import {
  connectToProcess,
  milliseconds,
  withProcessOptions,
  type ProcessOptions,
} from "./process-options.js";

/** `handover upgrade` */
export function upgradeCommand(): Command {
  return withProcessOptions(new Command("upgrade"))
    .summary("replace a process with its new code")
    .description(
      "Starts the new code of a running server, lets it take over when it is ready, and waits until the " +
        "upgrade can no longer be rolled back. If anything fails, the old process keeps serving.",
    )
    .option("--dry-run", "start the new code up to its ready(), stop it and report; nothing is replaced")
    .option(
      "--timeout <ms>",
      "give up after this time, if the process's own upgradeTimeout is longer",
      milliseconds,
    )
    .addHelpText("after", EXAMPLES)
    .action(upgrade);
}

const EXAMPLES = `
Examples:
  $ handover upgrade 4711
  $ handover upgrade --pid-file /run/app/app.pid --timeout 10000
  $ handover upgrade --control /run/app/app.sock --json
  $ handover upgrade 4711 --dry-run && handover upgrade 4711

Exit codes: 0 upgraded, or the dry run passed, 1 failed or rolled back, 2 wrong usage.`;

type UpgradeRequest = Extract<Request, { command: "upgrade" | "rehearse" }>;

interface Options extends ProcessOptions {
  dryRun?: true;
  timeout?: number;
}

async function upgrade(pid: number | undefined, options: Options, self: Command): Promise<void> {
  const client = await connectToProcess(pid, options, self);
  const { dryRun, timeout, json } = options;
  const command = dryRun ? ("rehearse" as const) : ("upgrade" as const);
  const request: UpgradeRequest = { command, ...(timeout === undefined ? {} : { timeout }) };
  try {
    if (json) writeJson(await client.ask(request, writeJson));
    else await showProgress(client, request);
  } catch (error) {
    throw withServingPid(error, client.pid);
  }
}

async function showProgress(client: ControlClient, request: UpgradeRequest): Promise<void> {
  const progress = new Progress();
  const isRehearsal = request.command === "rehearse";
  writeText(`${isRehearsal ? "dry run for" : "upgrading"} pid ${client.pid}`);
  try {
    const answer = await client.ask(request, (phase) => progress.show(phase));
    progress.end();
    const { pid, generation, timings } = answer;
    if (isRehearsal) writeText(step("ready", `after ${duration(timings.spawn + timings.ready)}`));
    const done = isRehearsal
      ? `dry run passed: the new code started and was stopped again; pid ${client.pid} is still serving`
      : `done: pid ${pid} serves as generation ${generation}`;
    writeText(paint("green", done));
  } finally {
    progress.end();
  }
}

/** Adds that the old process keeps serving, which is the first thing to know after a failure. */
function withServingPid(error: unknown, pid: number): unknown {
  if (!(error instanceof HandoverError) || !HARMLESS.has(error.code)) return error;
  return new HandoverError(error.code, `${error.message}; pid ${pid} keeps serving`, { cause: error });
}

const HARMLESS = new Set<HandoverError["code"]>([
  "ERR_CHILD_EXITED",
  "ERR_PROTOCOL",
  "ERR_ROLLED_BACK",
  "ERR_SPAWN",
  "ERR_UPGRADE_TIMEOUT",
]);

/** Prints the phases for people. On a terminal, a phase that takes long shows for how long. */
class Progress {
  #ticking: NodeJS.Timeout | undefined;

  show(phase: Phase): void {
    this.end();
    switch (phase.phase) {
      case "spawned":
        writeText(step("spawned", `pid ${phase.pid}, generation ${phase.generation}`));
        return this.#tick("initialising");
      case "committed":
        writeText(step("ready", `after ${duration(phase.timings.spawn + phase.timings.ready)}`));
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

function step(name: string, text: string): string {
  return `  ${name.padEnd(12)} ${text}`;
}
