import type { Argument, Command, Option } from "commander";

/** A word that the shell completes. */
export interface CompletedCommand {
  /** The name, and then the aliases. */
  names: string[];
  summary: string;
  options: CompletedOption[];
  /** The words that may follow as its argument. */
  words: string[];
  /** Whether a path may follow, too. */
  takesPath: boolean;
}

export interface CompletedOption {
  /** With the dashes. */
  long: string;
  summary: string;
  /** What has to follow: one of some words, a path, another value, or nothing. */
  value: readonly string[] | "path" | "other" | undefined;
}

/** The commands and options of a program, from the definitions that print its help. */
export function vocabularyOf(program: Command): CompletedCommand[] {
  const help = program.createHelp();
  const commands = help.visibleCommands(program);
  const names = commands.map((one) => one.name());
  return commands.map((command) => ({
    names: [command.name(), ...command.aliases()],
    summary: command.summary() || command.description(),
    options: help.visibleOptions(command).flatMap(completedOption),
    words: command.name() === "help" ? names : command.registeredArguments.flatMap(choicesOf),
    takesPath: command.registeredArguments.some((one) => one.name() === "program"),
  }));
}

function choicesOf({ argChoices }: Argument): readonly string[] {
  return argChoices ?? [];
}

function completedOption({ long, description, required, argChoices, flags }: Option): CompletedOption[] {
  if (long == null) return [];
  const value = !required ? undefined : (argChoices ?? (PATH.test(flags) ? "path" : "other"));
  return [{ long, summary: description, value }];
}

const PATH = /<(file|socket|directory)>/;
