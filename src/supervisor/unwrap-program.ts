import { existsSync, readFileSync, realpathSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { WrongOption } from "../util/validation.js";

/**
 * The program behind the words that people type: `npx next start` is the file of the package next, run by Node. npx, npm, pnpm and
 * yarn do not pass the channel of a worker on.
 *
 * @param here where the packages are looked up, from there upwards
 * @throws {HandoverError} `ERR_OPTION` for a script of package.json, with the command that it runs
 */
export function unwrapProgram(
  words: readonly string[],
  here: string,
): { words: readonly string[]; isScript: boolean } {
  const rest = withoutRunner(words, here);
  const [program = "", ...args] = rest;
  if (program.includes("/") || existsSync(resolve(here, program))) return { words: rest, isScript: false };
  const file = findBin(program, here);
  return file === undefined ? { words: rest, isScript: false } : { words: [file, ...args], isScript: true };
}

/** The words without the program that would run them. */
function withoutRunner(words: readonly string[], here: string): readonly string[] {
  const [first, second] = words;
  if (first === "npx" || first === "pnpx" || first === "bunx") return withoutOptions(words.slice(1));
  if (first !== "npm" && first !== "pnpm" && first !== "yarn") return words;
  if (second === "exec" || second === "x" || second === "dlx") return withoutOptions(words.slice(2));
  const scripts = scriptsOf(here);
  const isRun = second === "run" || second === "run-script";
  const [name = "", ...args] = withoutOptions(words.slice(isRun ? 2 : 1));
  if (Object.hasOwn(scripts, name)) {
    const command = [scripts[name], ...args.filter((word) => word !== "--")].join(" ");
    const why = `is a script of package.json (${words.join(" ")}): give its command instead, ${command}`;
    throw new WrongOption("program", why);
  }
  if (first === "npm") {
    // `npm start` runs server.js where there is no such script.
    const why = `is started by npm (${words.join(" ")}), which passes no sockets on: give its own command`;
    throw new WrongOption("program", why);
  }
  return [name, ...args];
}

/** Without options of the runner, such as `--yes` and `--`. */
function withoutOptions(words: readonly string[]): readonly string[] {
  const start = words.findIndex((word) => !word.startsWith("-"));
  return start < 0 ? [] : words.slice(start);
}

function scriptsOf(directory: string): Record<string, string> {
  const file = join(directory, "package.json");
  if (existsSync(file)) {
    try {
      return (JSON.parse(readFileSync(file, "utf8")) as { scripts?: Record<string, string> }).scripts ?? {};
    } catch {
      return {};
    }
  }
  const parent = dirname(directory);
  return parent === directory ? {} : scriptsOf(parent);
}

/** The file of a command that a package brings. Undefined for a shell script, as pnpm makes: the caller runs the name. */
function findBin(name: string, directory: string): string | undefined {
  const link = join(directory, "node_modules", ".bin", name);
  if (name !== "" && existsSync(link)) {
    const file = realpathSync(link);
    return isNodeScript(file) ? file : scriptOfShim(link);
  }
  const parent = dirname(directory);
  return parent === directory ? undefined : findBin(name, parent);
}

function isNodeScript(file: string): boolean {
  return /^#!.*\bnode\b/.test(readFileSync(file, "utf8").slice(0, 100)) || /\.[cm]?js$/.test(file);
}

/** pnpm's file in `.bin` is a shell script whose last words are `node "$basedir/../next/dist/bin/next" "$@"`. */
function scriptOfShim(link: string): string | undefined {
  const [, path] = /exec node +\x22\$basedir\/([^\x22]+)\x22/.exec(readFileSync(link, "utf8")) ?? [];
  return path === undefined ? undefined : realpathSync(join(dirname(link), path));
}
