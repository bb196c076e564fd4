import { Command } from "commander";
import type { Status } from "../control/protocol.js";
import { count, duration, paint, writeJson, writeText } from "./output.js";
import { connectToTarget, withTarget, type TargetOptions } from "./target.js";

/** `handover status` */
export function statusCommand(): Command {
  return withTarget(new Command("status"))
    .summary("show what a process is doing")
    .description(
      "Shows a running server: its generation, what it listens on, its connections, and the older " +
        "generations that are still draining.",
    )
    .addHelpText("after", EXAMPLES)
    .action(show);
}

const EXAMPLES = `
Examples:
  $ handover status 4711
  $ handover status --pid-file /run/app.pid --json | jq .connections

Exit codes: 0 shown, 1 failed, 2 wrong usage.`;

async function show(pid: number | undefined, options: TargetOptions, command: Command): Promise<void> {
  const client = await connectToTarget(pid, options, command);
  const { status } = await client.ask({ command: "status" });
  if (options.json) return writeJson(status);
  for (const [name, values] of describe(status, client.path)) {
    const [first = "none", ...rest] = values;
    writeText(`${paint("bold", name.padEnd(WIDTH))}${first}`);
    for (const value of rest) writeText(" ".repeat(WIDTH) + value);
  }
}

const WIDTH = 13;

function describe(status: Status, control: string): [string, string[]][] {
  return [
    ["pid", [String(status.pid)]],
    ["generation", [String(status.generation)]],
    ["state", [status.state]],
    ["uptime", [duration(status.uptime * 1_000)]],
    ["version", [`handover ${status.version}, Node ${status.node}`]],
    ["control", [control]],
    ["listeners", status.listeners.filter(({ name }) => !name.startsWith("handover:")).map(describeListener)],
    ["connections", [String(status.connections)]],
    ["draining", status.older.map(describeOlder)],
  ];
}

/** A name often says the address already. */
function describeListener({ name, address }: Status["listeners"][number]): string {
  return address === undefined || name.endsWith(`:${address}`) ? name : `${name} (${address})`;
}

function describeOlder({ pid, generation, connections, remaining }: Status["older"][number]): string {
  const who = `pid ${pid}, generation ${generation}`;
  if (connections === undefined || remaining === undefined) return `${who}: does not say`;
  return `${who}: ${count(connections, "connection")}, ${duration(remaining)} left`;
}
