import { Command } from "commander";
import { findServices, readStatus, startOf, type FoundService } from "../control/services.js";
import type { Status } from "../control/protocol.js";
import { duration, table, writeJson, writeText } from "./output.js";
import { describeListener, ownListeners } from "./describe-status.js";
import { shortCommand } from "./short-command.js";

/** `handover list` */
export function listCommand(): Command {
  return new Command("list")
    .summary("show the services of this user")
    .description(
      "Lists the running services of this user that have a control socket. Removes the control sockets that killed " +
        "processes have left in the user's runtime directory.",
    )
    .option("--json", "print JSON, one object per line")
    .addHelpText("after", EXAMPLES)
    .action(list);
}

const EXAMPLES = `
Examples:
  $ handover list
  $ handover list --json | jq '.services[].pid'

Exit codes: 0 listed, also if there is none, 1 failed, 2 wrong usage.`;

async function list({ json }: { json?: true }): Promise<void> {
  const services = await Promise.all(
    (await findServices()).map(async (one) => ({ ...one, status: await readStatus(one) })),
  );
  if (json) return writeJson({ answer: "list", services: services.map(toJson) });
  if (services.length === 0) return writeText("no service of this user runs");
  const rows = services.map((one) => (one.status === undefined ? silentRow(one) : row(one.status)));
  for (const line of table(HEADER, rows)) writeText(line);
}

type Listed = FoundService & { status: Status | undefined };

function toJson({ path, pid, status }: Listed): object {
  if (status === undefined) return { pid, control: path, state: "silent" };
  const { generation, state, uptime, listeners, name, workers } = status;
  const supervised = workers === undefined ? {} : { name, workers: workers.length };
  return {
    pid: status.pid,
    generation,
    state,
    uptime,
    listeners,
    ...startOf(status),
    control: path,
    ...supervised,
  };
}

/** Only a service that a supervisor runs has a name and workers. */
const HEADER = ["pid", "name", "workers", "generation", "uptime", "listeners", "command", "directory"];

function row(status: Status): string[] {
  const { pid, generation, uptime, name = "", workers } = status;
  const { command = ["unknown"], directory = "unknown" } = startOf(status);
  const listeners = ownListeners(status).map(describeListener).join(", ") || "none";
  return [
    String(pid),
    name,
    workers === undefined ? "" : String(workers.length),
    String(generation),
    duration(uptime * 1_000),
    listeners,
    shortCommand(command),
    directory,
  ];
}

function silentRow({ pid, path }: FoundService): string[] {
  return [String(pid ?? "unknown"), "", "", "does not answer", "", "", "", path];
}
