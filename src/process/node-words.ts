/**
 * The words of `NODE_OPTIONS`, as Node splits them. Each keeps its quotes: a path in quotes may have blanks, which a split
 * at every blank would lose when the words are joined again.
 */
export function wordsOfNodeOptions(text = ""): string[] {
  return text.match(/(?:[^ "]|"(?:\\.|[^"\\])*")+/gs) ?? [];
}

/** The words before the script, which are options of Node itself; without a script all words. */
export function ownOptionsOf(args: readonly string[]): string[] {
  for (let n = 0; n < args.length; n++) {
    const arg = args[n]!;
    if (arg === "--" || !arg.startsWith("-")) return args.slice(0, n);
    if (VALUED.has(arg)) n++;
  }
  return [...args];
}

/** The first argument that is neither an option nor the value of an option. */
export function scriptOf(args: readonly string[]): string | undefined {
  const options = ownOptionsOf(args);
  if (options.some((word) => NO_SCRIPT.test(word))) return undefined;
  const [next, afterDashes] = args.slice(options.length);
  return next === "--" ? afterDashes : next;
}

const NO_SCRIPT = /^(-|-[a-z]*[ep][a-z]*|--(eval|print|test|run)(=.*)?)$/;

const VALUED = new Set(
  "-r --require --import --loader --experimental-loader -C --conditions --env-file --env-file-if-exists --input-type --title --disable-warning --inspect-port --debug-port --watch-path -e --eval -p --print -pe".split(
    " ",
  ),
);
