import { reportError } from "./report-error.js";
import { readPlainWords } from "./plain-words.js";
import { exitAtOnce } from "../platform/exit-at-once.js";
import type { CommandOption } from "./option.js";
import { wholeNumber } from "./process-options.js";
import { stderr, stdout } from "./standard-stream.js";
import { showStatus, STATUS_OPTIONS } from "./status-command.js";
import { upgrade, UPGRADE_OPTIONS } from "./upgrade-command.js";

/** The program `handover`. Resolves with its exit code. */
export async function main(args: string[]): Promise<number> {
  const [name = "", ...words] = args;
  const command = Object.hasOwn(QUICK, name) ? QUICK[name] : undefined;
  const plain = command === undefined ? undefined : readPlainWords(words, command.options, wholeNumber);
  if (command === undefined || plain === undefined) {
    return (await import("./program.js")).runProgram(args);
  }
  try {
    await command.run(plain.argument as number | undefined, plain.options);
    return 0;
  } catch (error) {
    return reportError(error, plain.options["json"] === true, `handover ${command.name}`);
  }
}

/** Ends the process of the command, at once if nothing is left to write: Node takes longer to end by itself. */
export function end(code: number): void {
  process.exitCode = code;
  if (!stdout.isDone || !stderr.isDone) return;
  exitAtOnce(code);
  process.exit();
}

interface QuickCommand {
  name: string;
  options: readonly CommandOption[];
  run(pid: number | undefined, options: object): Promise<void>;
}

const UPGRADE: QuickCommand = { name: "upgrade", options: UPGRADE_OPTIONS, run: upgrade };

/** Commands that are called most, often by programs: they must be quick, so most command lines do not need commander. */
const QUICK: Record<string, QuickCommand> = {
  status: { name: "status", options: STATUS_OPTIONS, run: showStatus },
  upgrade: UPGRADE,
  reload: UPGRADE,
};
