import type { Command } from "commander";
import { ControlClient } from "../control/client.js";
import { builtins } from "../platform/builtins.js";
import type { Status } from "../control/protocol.js";
import { describeStatus } from "./describe-status.js";
import { interruptible } from "./interrupt.js";
import { clearScreen, paint, writeJson, writeLines } from "./output.js";
import { InvalidValue, type CommandOption } from "./option.js";
import {
  connectToProcess,
  PROCESS_OPTIONS,
  withProcessOptions,
  type ProcessOptions,
} from "./process-options.js";
import { stdout } from "./standard-stream.js";

export const STATUS_OPTIONS: readonly CommandOption[] = [
  ...PROCESS_OPTIONS,
  {
    flags: "--watch [seconds]",
    text: "repeat until Ctrl-C, every second or every [seconds], and follow upgrades",
    parse: seconds,
  },
];

/** `handover status` */
export function statusCommand(command: Command): Command {
  return withProcessOptions(command, STATUS_OPTIONS)
    .summary("show what a process is doing")
    .description(
      "Shows a running server: its generation, listeners, connections and memory, the predecessors that have not " +
        "exited yet, and the last upgrades.",
    )
    .addHelpText("after", EXAMPLES)
    .action(showStatus);
}

const EXAMPLES = `
Examples:
  $ handover status 4711
  $ handover status --pid-file /run/app/app.pid --json | jq .connections
  $ handover status --pid-file /run/app/app.pid --watch

Exit codes: 0 shown, 1 failed, 2 wrong usage.`;

interface Options extends ProcessOptions {
  watch?: number | true;
}

export async function showStatus(pid: number | undefined, options: Options): Promise<void> {
  const client = await connectToProcess(pid, options);
  if (options.watch === undefined) return print(await ask(client), client.path, options);
  const every = options.watch === true ? 1_000 : options.watch * 1_000;
  return interruptible((signal) => watch(client, every, options, signal));
}

/**
 * Asks at the same control socket again, which the next generation inherits. Ends when the user interrupts it, or when
 * the reader of stdout is gone.
 */
async function watch(
  first: ControlClient,
  every: number,
  options: Options,
  interrupted: AbortSignal,
): Promise<void> {
  const left = new AbortController();
  stdout.onBroken(() => left.abort());
  const signal = AbortSignal.any([interrupted, left.signal]);
  try {
    for (let client = first; ; client = await ControlClient.connect(first.path, undefined, signal)) {
      const status = await ask(client, signal);
      clearScreen();
      print(status, client.path, options);
      await builtins.timers.setTimeout(every, undefined, { signal });
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** @param signal ends the wait */
async function ask(client: ControlClient, signal?: AbortSignal): Promise<Status> {
  const close = (): void => client.close();
  signal?.addEventListener("abort", close);
  try {
    const { status } = await client.ask({ command: "status" });
    return status;
  } finally {
    signal?.removeEventListener("abort", close);
  }
}

function print(status: Status, path: string, { json }: Options): void {
  if (json) return writeJson(status);
  writeLines(
    describeStatus(status, path).flatMap(([name, [first = "none", ...rest]]) => [
      `${paint("bold", name.padEnd(WIDTH))}${first}`,
      ...rest.map((line) => " ".repeat(WIDTH) + line),
    ]),
  );
}

function seconds(text: string): number {
  if (/^\d{1,6}(\.\d{1,3})?$/.test(text) && Number(text) >= 0.1) return Number(text);
  throw new InvalidValue("It must be a number of seconds, at least 0.1.");
}

const WIDTH = 14;
