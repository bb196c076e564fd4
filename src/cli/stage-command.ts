import { Command } from "commander";
import { addOptions } from "./option.js";
import { duration, paint, writeJson, writeText } from "./output.js";
import {
  attemptOf,
  attemptOptions,
  connectToProcess,
  timeWithUnit,
  withProcessOptions,
  type AttemptOptions,
  type ProcessOptions,
} from "./process-options.js";
import { Progress, startedBy, withServingPid } from "./progress.js";

/** `handover stage` */
export function stageCommand(): Command {
  const command = withProcessOptions(new Command("stage"))
    .summary("start the new code now, for an upgrade at once later")
    .description(
      "Starts the new code of a running server and brings it to its ready(), where it waits. The next upgrade " +
        "commits it at once. Until then the old process serves as before.",
    )
    .option(
      "--ttl <time>",
      "throw the new process away after this time: 500ms, 60s, 5m (default: 60s)",
      timeWithUnit,
    )
    .addHelpText("after", EXAMPLES)
    .action(stage);
  return addOptions(command, attemptOptions("stage"));
}

const EXAMPLES = `
Examples:
  $ handover stage 4711 && handover upgrade 4711
  $ handover stage --pid-file /run/app/app.pid --ttl 10m

Exit codes: 0 staged, 1 failed, 2 wrong usage.`;

/** `handover unstage` */
export function unstageCommand(): Command {
  return withProcessOptions(new Command("unstage"))
    .summary("throw a staged process away")
    .description('Ends the process that "handover stage" has started. The server goes on as before.')
    .addHelpText("after", "\nExit codes: 0 no process is staged, 1 failed, 2 wrong usage.")
    .action(unstage);
}

interface StageOptions extends AttemptOptions {
  ttl?: number;
}

async function stage(pid: number | undefined, options: StageOptions): Promise<void> {
  const client = await connectToProcess(pid, options);
  const { ttl, json } = options;
  const request = {
    command: "stage" as const,
    ...(ttl === undefined ? {} : { ttl }),
    ...attemptOf(options),
  };
  const progress = new Progress();
  try {
    if (json) return writeJson(await client.ask(request, writeJson));
    writeText(`staging an upgrade of pid ${client.pid}`);
    const staged = await client.ask(request, (phase) => progress.show(phase));
    progress.end();
    const left = duration(Math.max(0, staged.expires - Date.now()));
    const is = (staged.workers ?? 1) === 1 ? "is ready, and waits" : "are ready, and wait";
    writeText(paint("green", `staged: ${startedBy(staged)} ${is} ${left} for "handover upgrade"`));
  } catch (error) {
    throw withServingPid(error, client.pid);
  } finally {
    progress.end();
  }
}

async function unstage(pid: number | undefined, options: ProcessOptions): Promise<void> {
  const client = await connectToProcess(pid, options);
  const answer = await client.ask({ command: "unstage" });
  if (options.json) return writeJson(answer);
  const ended =
    answer.pid === undefined
      ? "nothing was staged"
      : `unstaged: ${startedBy(answer)} ${(answer.workers ?? 1) === 1 ? "was" : "were"} told to exit`;
  return writeText(ended);
}
