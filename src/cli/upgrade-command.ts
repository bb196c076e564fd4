import type { Command } from "commander";
import { ControlClient } from "../control/client.js";
import type { Request } from "../control/protocol.js";
import { HandoverError } from "../errors.js";
import { builtins } from "../platform/builtins.js";
import type { CommandOption } from "./option.js";
import { duration, paint, writeJson, writeText } from "./output.js";
import {
  attemptOf,
  attemptOptions,
  connectToProcess,
  PROCESS_OPTIONS,
  withProcessOptions,
  type AttemptOptions,
} from "./process-options.js";
import { Progress, startedBy, step, withServingPid } from "./progress.js";

export const UPGRADE_OPTIONS: readonly CommandOption[] = [
  ...PROCESS_OPTIONS,
  {
    flags: "--dry-run",
    text: "start the new code up to its ready(), stop it and report; nothing is replaced",
  },
  {
    flags: "--supervisor",
    text: "upgrade the supervisor of handover run itself; its workers stay",
    conflicts: "dryRun",
  },
  ...attemptOptions("upgrade"),
];

/** `handover upgrade` */
export function upgradeCommand(command: Command): Command {
  return withProcessOptions(command, UPGRADE_OPTIONS)
    .alias("reload")
    .summary("replace a process with its new code")
    .description(
      "Starts the new code of a running server, lets it take over when it is ready, and waits until the " +
        "upgrade can no longer be rolled back. If anything fails, the old process keeps serving.",
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

interface Options extends AttemptOptions {
  dryRun?: true;
  supervisor?: true;
}

export async function upgrade(pid: number | undefined, options: Options): Promise<void> {
  const client = await connectToProcess(pid, options);
  const { dryRun, json } = options;
  if (options.supervisor) return upgradeSupervisor(client, json === true);
  const request: UpgradeRequest = { command: dryRun ? "rehearse" : "upgrade", ...attemptOf(options) };
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
    const { pid, generation, timings, workers } = answer;
    if (isRehearsal) writeText(step("ready", `after ${duration(timings.spawn + timings.ready)}`));
    const done = isRehearsal
      ? `dry run passed: the new code started and was stopped again; pid ${client.pid} is still serving`
      : workers === undefined
        ? `done: pid ${pid} serves as generation ${generation}`
        : `done: ${startedBy(answer)} of pid ${pid} ${workers === 1 ? "serves" : "serve"} as generation ${generation}`;
    writeText(paint("green", done));
  } finally {
    progress.end();
  }
}

async function upgradeSupervisor(client: ControlClient, json: boolean): Promise<void> {
  const { path, pid } = client;
  if (!json) writeText(`upgrading the supervisor, pid ${pid}`);
  const { number, version } = await client.ask({ command: "upgrade-supervisor" });
  await awaitReplacement(path, number);
  const done = `done: pid ${pid} runs handover ${version}; its workers were not touched`;
  if (json) writeJson({ answer: "replaced", pid, version });
  else writeText(paint("green", done));
}

/** Clients wait in the queue of the control socket while one program replaces the other. */
async function awaitReplacement(path: string, number: number): Promise<void> {
  for (const deadline = Date.now() + REPLACEMENT_TIMEOUT; ;) {
    const { status } = await ControlClient.connect(path, REPLACEMENT_TIMEOUT)
      .then(async (client) => client.ask({ command: "status" }))
      .catch(() => ({ status: undefined }));
    const replacement = status?.replacement;
    if (replacement?.number === number) {
      if (replacement.reason === undefined) return;
      throw new HandoverError("ERR_ROLLED_BACK", `the former supervisor goes on: ${replacement.reason}`);
    }
    if (Date.now() > deadline)
      throw new HandoverError(
        "ERR_CONTROL",
        `the supervisor did not answer at ${path} after it was upgraded`,
      );
    await builtins.timers.setTimeout(50);
  }
}

/** ms */
const REPLACEMENT_TIMEOUT = 30_000;
