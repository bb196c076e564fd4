import { Command } from "commander";
import { launchInfo } from "../../process/launch-info.js";
import type { SupervisorSettings } from "../../supervisor/settings.js";
import { quoteForShell } from "../../platform/shell.js";
import { printable, Reported, writeJson, writeText } from "../output.js";
import { withFlags, type Flags } from "./flags.js";
import { loadSettings } from "./load-settings.js";

/** `handover run` */
export function runCommand(): Command {
  return withFlags(new Command("run"))
    .summary("run several workers of a program, and keep them running")
    .description(
      "Starts a program several times, keeps its listeners open, and restarts a worker that crashes or hangs. The PID " +
        "stays the same through every upgrade. A JavaScript or TypeScript file is run by Node; anything else is a command. " +
        "Without a program the settings are those of ./handover.config.json.",
    )
    .argument("[program]", "file or command; what follows it belongs to it")
    .argument("[args...]", "arguments of the program")
    .passThroughOptions()
    .addHelpText("after", EXAMPLES)
    .action(run);
}

const EXAMPLES = `
Examples:
  $ handover run -- server.js                       one worker for each processor
  $ handover run --workers 4 --pid-file /run/app/app.pid -- server.js --port 8080
  $ handover run -- node --enable-source-maps server.js
  $ handover run --env-file .env --health /health -- tsx server.ts
  $ handover run --config ecosystem.config.js --env production --dry-run

Exit codes: 0 stopped, or the settings are right, 1 failed, or every worker was given up, 2 wrong usage.`;

async function run(program: string | undefined, args: string[], flags: Flags): Promise<void> {
  try {
    await runOrGoOn(program, args, flags);
  } catch (error) {
    // With a state this process is a supervisor already, of which this program is the next version.
    if (process.env["HANDOVER_STATE"] !== undefined)
      (await import("../../supervisor/state.js")).goBack(error);
    throw error;
  }
}

async function runOrGoOn(program: string | undefined, args: string[], flags: Flags): Promise<void> {
  const words = program === undefined ? [] : [program, ...args];
  const { settings, notes } = await loadSettings(flags, words, launchInfo.logicalCwd);
  for (const note of notes) process.stderr.write(`handover: ${printable(note)}\n`);
  if (flags.dryRun) return show(settings, flags.json === true);
  const { run: supervise } = await import("../../supervisor/index.js");
  const code = await supervise(settings);
  // The supervisor has said why.
  if (code !== 0) throw new Reported();
}

function show({ readEnv: _, command, ...settings }: SupervisorSettings, json: boolean): void {
  const { command: file, args, cwd } = command;
  const words = [file, ...args];
  if (json) return writeJson({ answer: "settings", command: words, cwd, ...settings });
  const rows = Object.entries(settings).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, typeof value === "string" ? value : JSON.stringify(value)] as const],
  );
  const all = [["command", words.map(quoteForShell).join(" ")] as const, ["cwd", cwd] as const, ...rows];
  const width = Math.max(...all.map(([name]) => name.length));
  for (const [name, value] of all) writeText(`${name.padEnd(width)}  ${value}`);
}
