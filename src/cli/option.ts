import type { Command } from "commander";

/** An option of a command. It is described once, for commander and for {@link readPlainWords}. */
export interface CommandOption {
  /** As the help shows it: `--pid-file <file>`. */
  flags: string;
  text: string;
  /** Reads its value. @throws {InvalidValue} */
  parse?: (text: string) => unknown;
  /** The member of another option that it excludes. */
  conflicts?: string;
}

/** Adds the options to a command of commander. */
export function addOptions(command: Command, options: readonly CommandOption[]): Command {
  for (const { flags, text, parse, conflicts } of options) {
    const option = command.createOption(flags, text);
    if (parse !== undefined) option.argParser(parse);
    if (conflicts !== undefined) option.conflicts(conflicts);
    command.addOption(option);
  }
  return command;
}

/** A wrong value of an option or argument; commander knows it by its code. */
export class InvalidValue extends Error {
  readonly code = "commander.invalidArgument";
  readonly exitCode = 1;
}
