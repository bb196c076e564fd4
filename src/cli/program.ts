import { Command, CommanderError } from "commander";
import { VERSION } from "../util/version.js";
import { listCommand } from "./list-command.js";
import { WrongUsage } from "./output.js";
import { reportError, WRONG_USAGE } from "./report-error.js";
import { stderr, stdout } from "./standard-stream.js";
import { restartCommand } from "./restart-command.js";
import { scaleCommand } from "./scale-command.js";
import { stageCommand, unstageCommand } from "./stage-command.js";
import { statusCommand } from "./status-command.js";
import { stopCommand } from "./stop-command.js";
import { upgradeCommand } from "./upgrade-command.js";

/** Any command line. Resolves with the exit code. */
export async function runProgram(args: string[]): Promise<number> {
  // Commander writes to these itself.
  for (const stream of [stdout, stderr]) stream.open();
  const program = await createProgram(args[0]);
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
    // The help that was printed is the message.
    if (error instanceof CommanderError && error.exitCode === 0) return DONE;
    if (error instanceof CommanderError && error.code === "commander.help") return WRONG_USAGE;
    const command = find(program, words[0]!);
    // After "--" they belong to a program.
    const own = args.includes("--") ? args.slice(0, args.indexOf("--")) : args;
    return reportError(
      withoutCommander(error),
      own.includes("--json"),
      `handover ${command?.name() ?? ""}`.trim(),
    );
  }
}

/** Commands that other programs have, and what to do here. */
const ABSENT: Record<string, string> = {
  start:
    "there is no command start: start the program itself, or several workers of it by handover run, or let systemd start it (handover unit --install)",
  logs: "there is no command logs: a service prints where it was started, and under systemd into the journal",
};

function find(program: Command, name: string): Command | undefined {
  return program.commands.find((one) => one.name() === name || one.aliases().includes(name));
}

function withoutCommander(error: unknown): unknown {
  return error instanceof CommanderError ? new WrongUsage([error.message.replace(/^error: /, "")]) : error;
}

const DONE = 0;

/**
 * The commands by their names, in the order of the help. Those that operate a service are in one file with this one; each of the
 * others is loaded only if it runs.
 */
const COMMANDS: readonly (readonly [names: readonly string[], load: () => Command | Promise<Command>])[] = [
  [["auto"], async () => (await import("./auto-command.js")).autoCommand()],
  [["run"], async () => (await import("./run/run-command.js")).runCommand()],
  [["upgrade", "reload"], () => upgradeCommand(new Command("upgrade"))],
  [["scale"], scaleCommand],
  [["restart"], restartCommand],
  [["stage"], stageCommand],
  [["unstage"], unstageCommand],
  [["list"], listCommand],
  [["status"], () => statusCommand(new Command("status"))],
  [["stop"], stopCommand],
  [["doctor"], async () => (await import("./doctor/doctor-command.js")).doctorCommand()],
  [["unit"], async () => (await import("./unit-file/unit-command.js")).unitCommand()],
  [["migrate"], async () => (await import("./migrate/migrate-command.js")).migrateCommand()],
  [["demo"], async () => (await import("./demo/demo-command.js")).demoCommand()],
  [
    ["completion"],
    async () => (await import("./completion/completion-command.js")).completionCommand(createProgram),
  ],
];

/** The program with the command of this name only; with all commands if there is none, for the help. */
async function createProgram(name?: string): Promise<Command> {
  const program = new Command("handover")
    .description("Upgrades running Node servers without dropping a connection.")
    .version(VERSION, "-v, --version", "print the version")
    // So that the options of a program that run starts are not taken for those of run.
    .enablePositionalOptions()
    .helpCommand("help [command]", "show what a command does")
    .addHelpText("after", MORE_HELP);
  const named = COMMANDS.filter(([names]) => names.includes(name ?? ""));
  const loading = (named.length > 0 ? named : COMMANDS).map(async ([, load]) => load());
  for (const command of await Promise.all(loading)) program.addCommand(command);
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

Without a PID a command means the only service of this user; with several, handover list shows them.

Exit codes: 0 done, 1 failed, 2 wrong usage.`;
