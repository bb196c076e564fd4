import { Argument, Command, InvalidArgumentError } from "commander";
import { paint, writeJson, writeText } from "./output.js";
import {
  connectToProcess,
  milliseconds,
  withProcessOptions,
  type ProcessOptions,
} from "./process-options.js";
import { Progress, withServingPid } from "./progress.js";

/** `handover restart` */
export function restartCommand(): Command {
  const command = new Command("restart").addArgument(
    new Argument("[index]", "index of the worker; default: each worker, one at a time")
      .argParser(workerIndex)
      .default("all", "all"),
  );
  return withProcessOptions(command)
    .summary("replace one worker of handover run, or each in turn")
    .description(
      "Starts a new process of a worker, and lets it take over when it is ready, as an upgrade does. Its generation stays. " +
        "If anything fails, the old process keeps serving. A program that runs alone is replaced by handover upgrade.",
    )
    .option(
      "--timeout <ms>",
      "give up after this time, if the service's own readyTimeout is longer",
      milliseconds,
    )
    .addHelpText("after", EXAMPLES)
    .action(restart);
}

const EXAMPLES = `
Examples:
  $ handover restart
  $ handover restart 2 --pid-file /run/app/app.pid
  $ handover restart all 4711

Exit codes: 0 restarted, 1 failed or rolled back, 2 wrong usage.`;

interface Options extends ProcessOptions {
  timeout?: number;
}

async function restart(index: number | "all", pid: number | undefined, options: Options): Promise<void> {
  const client = await connectToProcess(pid, options);
  const { timeout, json } = options;
  const request = {
    command: "restart" as const,
    ...(index === "all" ? {} : { index }),
    ...(timeout === undefined ? {} : { timeout }),
  };
  const what = index === "all" ? "every worker" : `worker ${index}`;
  const progress = new Progress();
  try {
    if (json) return writeJson(await client.ask(request, writeJson));
    writeText(`restarting ${what} of pid ${client.pid}`);
    await client.ask(request, (phase) => progress.show(phase));
    progress.end();
    writeText(paint("green", `done: ${what} has a new process`));
  } catch (error) {
    throw withServingPid(error, client.pid);
  } finally {
    progress.end();
  }
}

function workerIndex(text: string): number | "all" {
  if (text === "all") return text;
  if (/^\d{1,5}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It must be the index of a worker, from 0 on, or "all".');
}
