import { Command } from "commander";
import { count, paint, writeJson, writeText } from "./output.js";
import { connectToProcess, withProcessOptions, type ProcessOptions } from "./process-options.js";

/** `handover stop` */
export function stopCommand(): Command {
  return withProcessOptions(new Command("stop"))
    .summary("stop a process after its connections have ended")
    .description(
      "Stops a server: it no longer accepts connections, and the command waits until the open ones have ended. " +
        "Connections that last longer than its drainTimeout are destroyed and counted.",
    )
    .addHelpText("after", EXAMPLES)
    .action(stop);
}

const EXAMPLES = `
Examples:
  $ handover stop 4711
  $ handover stop --pid-file /run/app/app.pid --json

Exit codes: 0 stopped, 1 failed, 2 wrong usage.`;

async function stop(pid: number | undefined, options: ProcessOptions): Promise<void> {
  const client = await connectToProcess(pid, options);
  if (options.json) return writeJson(await client.ask({ command: "stop" }, writeJson));
  writeText(`stopping pid ${client.pid}`);
  const { destroyed } = await client.ask({ command: "stop" }, (phase) => {
    if (phase.phase === "draining") writeText(`  draining ${count(phase.connections, "connection")}`);
  });
  if (destroyed === 0) return writeText(paint("green", "stopped: no connection had to be destroyed"));
  const were = destroyed === 1 ? "1 connection was" : `${count(destroyed, "connection")} were`;
  writeText(paint("yellow", `stopped: ${were} still open after drainTimeout, and destroyed`));
}
