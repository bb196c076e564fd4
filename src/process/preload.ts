import { wordsOfNodeOptions } from "./node-words.js";

/*
 * The preload runs in a successor before its program, and only reports errors that are not caught: of a syntax error, or of
 * a missing module, no line of this package has run. It is given in NODE_OPTIONS, and takes itself out of it, so neither the
 * program nor a process that it starts finds it there.
 *
 * It is a data: URL, not a file: Node loads it again in each worker thread, which would fail once the file was deleted with
 * the release that it belongs to.
 */

/** The name of the listener that reports, by which the package finds it. */
export const REPORTER_NAME = "reportToHandover";

/**
 * It reports as uncaught-error.ts does, and never fails, which would end the successor. In a worker thread the option has
 * left NODE_OPTIONS, and it does nothing. To import a module of Node's would take milliseconds.
 */
const SOURCE = `
const { HANDOVER_CHANNEL = "", NODE_OPTIONS = "" } = process.env;
const rest = NODE_OPTIONS.replace(/--import=data:text\\/javascript;handover,\\S* ?/, "");
if (rest !== NODE_OPTIONS) {
  if (rest === "") delete process.env.NODE_OPTIONS;
  else process.env.NODE_OPTIONS = rest;
  const [fd, inode] = HANDOVER_CHANNEL.split(":");
  const text = (value) => (value === undefined ? value : String(value).slice(0, 4096));
  const ends = (stack) => text(stack.split("\\n", 1)[0]) + "\\n" + stack.slice(-4096);
  process.on("uncaughtExceptionMonitor", function ${REPORTER_NAME}(error) {
    try {
      const { fstatSync, writeSync } = process.getBuiltinModule("node:fs");
      if (String(fstatSync(Number(fd), { bigint: true }).ino) !== inode) return;
      const { name, code, stack = "", message = String(error) } = Object(error);
      const fields = { name: text(name), code: text(code), message: text(message), stack: ends(stack) };
      writeSync(Number(fd), JSON.stringify({ type: "uncaught", ...fields }));
    } catch {}
  });
}`;

/** Not encoded at a start, which does not need it. */
function preloadOption(): string {
  return `--import=data:text/javascript;handover,${encodeURIComponent(SOURCE.replaceAll(/\n\s*/g, "\n"))}`;
}

/** That option of any version of this package, and the blank after it. */
const ANY_OPTION = /--import=data:text\/javascript;handover,\S* ?/;

/** The environment of a successor with the preload. */
export function withPreload(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { NODE_OPTIONS } = env;
  const option = preloadOption();
  return { ...env, NODE_OPTIONS: NODE_OPTIONS ? `${option} ${NODE_OPTIONS}` : option };
}

/** The environment without the preload, which `/proc/self/environ` still has. */
export function withoutPreload(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { NODE_OPTIONS, ...others } = env;
  if (NODE_OPTIONS === undefined || !ANY_OPTION.test(NODE_OPTIONS)) return env;
  const rest = NODE_OPTIONS.replace(ANY_OPTION, "");
  return rest === "" ? others : { ...others, NODE_OPTIONS: rest };
}

/**
 * Whether the preload would change how Node loads this program. With `--import` it loads a CommonJS program, and the
 * CommonJS files of worker threads, by the loader of ES modules: later, and only with the file extensions that it knows.
 */
export function doesPreloadShow(): boolean {
  const options = [...process.execArgv, ...wordsOfNodeOptions(process.env["NODE_OPTIONS"])];
  if (options.some((option) => USES_MODULE_LOADER.test(option))) return false;
  return process.mainModule !== undefined || process.argv[1] === undefined || hasHadWorkers;
}

const USES_MODULE_LOADER = /^--(import|(experimental-)?loader)(=|$)/;

let hasHadWorkers = false;
process.on("worker", () => (hasHadWorkers = true));
