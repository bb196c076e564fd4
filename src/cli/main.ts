import { Command, CommanderError } from "commander";
import { reasonOf } from "../errors.js";
import { VERSION } from "../util/version.js";
import { completionCommand } from "./completion/completion-command.js";
import { demoCommand } from "./demo/demo-command.js";
import { doctorCommand } from "./doctor/doctor-command.js";
import { Interrupted } from "./interrupt.js";
import { listCommand } from "./list-command.js";
import { printable, Reported, writeJson } from "./output.js";
import { statusCommand } from "./status-command.js";
import { stopCommand } from "./stop-command.js";
import { stageCommand, unstageCommand } from "./stage-command.js";
import { unitCommand } from "./unit-file/unit-command.js";
import { upgradeCommand } from "./upgrade-command.js";

/** The program `handover`. Resolves with its exit code. */
export async function main(args: string[]): Promise<number> {
  // A reader that closes early, as `head` does, must not stop the work half done.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
  const program = createProgram();
  if (args.length === 0) {
    program.outputHelp();
    return DONE;
  }
  // With the name of no command, `help` would print the help of all.
  const isVainHelp = args[0] === "help" && args[1] !== undefined && find(program, args[1]) === undefined;
  const words = isVainHelp ? args.slice(1) : args;
  try {
    if (Object.hasOwn(ABSENT, words[0]!)) program.error(ABSENT[words[0]!]!);
    await program.parseAsync(words, { from: "user" });
    return DONE;
  } catch (error) {
    const command = find(program, words[0]!);
    return reportError(error, args.includes("--json"), `handover ${command?.name() ?? ""}`.trim());
  }
}

/** Commands that other programs have, and what to do here. */
const ABSENT: Record<string, string> = {
  start:
    "there is no command start: start the program itself, or let systemd start it (handover unit --install)",
  restart: "there is no command restart: handover upgrade replaces the process, and no client notices",
  logs: "there is no command logs: a service prints where it was started, and under systemd into the journal",
};

function find(program: Command, name: string): Command | undefined {
  return program.commands.find((one) => one.name() === name || one.aliases().includes(name));
}

const DONE = 0;
const FAILED = 1;
const WRONG_USAGE = 2;

function createProgram(): Command {
  const program = new Command("handover")
    .description("Upgrades running Node servers without dropping a connection.")
    .version(VERSION, "-v, --version", "print the version")
    .helpCommand("help [command]", "show what a command does")
    .addHelpText("after", MORE_HELP);
  for (const command of [
    upgradeCommand(),
    stageCommand(),
    unstageCommand(),
    listCommand(),
    statusCommand(),
    stopCommand(),
    doctorCommand(),
    unitCommand(),
    demoCommand(),
    completionCommand(() => program),
  ]) {
    program.addCommand(command);
  }
  for (const command of [program, ...program.commands]) {
    command.exitOverride().configureOutput({ outputError: () => {} });
  }
  return program;
}

const MORE_HELP = `
Examples:
  $ handover demo                            watch a demo server being upgraded
  $ handover upgrade                         replace the only service of this user with its new code
  $ handover upgrade 4711                    replace process 4711
  $ handover status --pid-file /run/app/app.pid

Without a PID upgrade, status and stop mean the only service of this user; with several, handover list shows them.

Exit codes: 0 done, 1 failed, 2 wrong usage.`;

/** Prints what went wrong. Returns the exit code. */
function reportError(error: unknown, json: boolean, words: string): number {
  if (error instanceof CommanderError && error.exitCode === 0) return DONE;
  if (error instanceof Reported) return FAILED;
  // The help that was printed is the message.
  if (error instanceof CommanderError && error.code === "commander.help") return WRONG_USAGE;
  const isUsage = error instanceof CommanderError;
  const message = reasonOf(error).replace(/^error: /, "");
  const { code } = error as { code?: unknown };
  if (json) writeJson({ answer: "failed", code: isUsage ? "ERR_OPTION" : code, message });
  process.stderr.write(`handover: ${printable(message.replaceAll("\n", " "))}\n`);
  if (isUsage) process.stderr.write(`Try: ${words} --help\n`);
  if (error instanceof Interrupted) return error.exitCode;
  return isUsage ? WRONG_USAGE : FAILED;
}
