import { Argument, Command } from "commander";
import { count, paint, writeJson, writeText } from "./output.js";
import { connectToProcess, wholeNumber, withProcessOptions, type ProcessOptions } from "./process-options.js";
import { Progress } from "./progress.js";

/** `handover scale` */
export function scaleCommand(): Command {
  const command = new Command("scale").addArgument(
    new Argument("<workers>", "how many workers there are to be").argParser(wholeNumber),
  );
  return withProcessOptions(command)
    .summary("change the number of workers of handover run")
    .description(
      "Starts further workers, or lets those of the highest indexes leave: what they have moves to the others, and no " +
        "client notices. Workers that have failed are started again. The number lasts until the service is started anew.",
    )
    .addHelpText("after", EXAMPLES)
    .action(scale);
}

const EXAMPLES = `
Examples:
  $ handover scale 4
  $ handover scale 2 --pid-file /run/app/app.pid --json

Exit codes: 0 scaled, 1 failed, 2 wrong usage.`;

async function scale(workers: number, pid: number | undefined, options: ProcessOptions): Promise<void> {
  const client = await connectToProcess(pid, options);
  const request = { command: "scale" as const, workers };
  if (options.json) return writeJson(await client.ask(request, writeJson));
  const progress = new Progress();
  writeText(`scaling pid ${client.pid} to ${count(workers, "worker")}`);
  const { from } = await client.ask(request, (phase) => progress.show(phase));
  writeText(paint("green", `done: ${count(workers, "worker")} instead of ${from}`));
}
