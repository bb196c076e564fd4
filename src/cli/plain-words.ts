import type { CommandOption } from "./option.js";

/** What a command line says, as commander would report it. */
interface PlainWords {
  argument: unknown;
  options: Record<string, unknown>;
}

/**
 * Reads the words of a command that has at most one argument, without commander, whose loading takes as long as the rest of
 * the command. Undefined for a line that needs commander: one that is wrong, asks for help, or has an option with an optional
 * value, or a value that looks like an option.
 *
 * @param parse reads the argument
 */
export function readPlainWords(
  words: readonly string[],
  known: readonly CommandOption[],
  parse: (text: string) => unknown,
): PlainWords | undefined {
  const plain: PlainWords = { argument: undefined, options: {} };
  try {
    for (let n = 0; n < words.length; n++) {
      const word = words[n]!;
      if (!word.startsWith("-")) {
        if (plain.argument !== undefined) return undefined;
        plain.argument = parse(word);
        continue;
      }
      const [name = "", value] = word.split(/=(.*)/s, 2);
      const option = known.find(({ flags }) => flags.split(" ")[0] === name);
      const [, placeholder] = option?.flags.split(" ") ?? [];
      if (option === undefined || placeholder?.startsWith("[")) return undefined;
      if (placeholder === undefined) {
        if (value !== undefined) return undefined;
        plain.options[memberOf(name)] = true;
        continue;
      }
      const text = value ?? words[++n];
      if (text === undefined || text === "" || text.startsWith("-")) return undefined;
      plain.options[memberOf(name)] = option.parse === undefined ? text : option.parse(text);
    }
  } catch {
    // Commander says which word is wrong.
    return undefined;
  }
  const excluded = known.some(
    ({ flags, conflicts }) =>
      conflicts !== undefined &&
      conflicts in plain.options &&
      memberOf(flags.split(" ")[0]!) in plain.options,
  );
  return excluded ? undefined : plain;
}

/** `pidFile` of `--pid-file`. */
function memberOf(name: string): string {
  return name.slice(2).replaceAll(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
}
