import { existsSync } from "node:fs";
import { basename, extname, resolve } from "node:path";
import { reasonOf } from "../../errors.js";
import { usableProcessors } from "../../platform/cgroup.js";
import { toServiceName } from "../../supervisor/program.js";
import { nearest } from "../../util/nearest.js";
import { splitWords } from "../unit-file/quote.js";
import { isObject, kindOf, type ConfigFile, type RawOptions } from "./config-file.js";
import { asksForMore, canonicalKey, SUPPORTED, UNSUPPORTED } from "./pm2-keys.js";

/**
 * Adds an app of PM2 to a file's services.
 *
 * @param path of the app in the file
 */
export function addApp(
  config: ConfigFile,
  path: string,
  written: Record<string, unknown>,
  environment: string | undefined,
): void {
  const app: Record<string, unknown> = {};
  const keys: Record<string, string> = {};
  for (const [key, value] of Object.entries(written)) {
    if (value === null) continue;
    app[canonicalKey(key)] ??= value;
    keys[canonicalKey(key)] ??= key;
  }
  const fail = (key: string, expected: string): void => {
    config.faults.push(`${path}.${keys[key] ?? key} must be ${expected}, not ${show(app[key])}`);
  };
  addNotes(config, path, app, keys);
  const reader = new AppReader(app, config.directory, fail);
  const options = reader.read(environment);
  if (environment !== undefined && !isObject(app[`env_${environment}`])) {
    config.notes.push(`${path} has no env_${environment}: the variables of env are used`);
  }
  const name = typeof options["name"] === "string" ? options["name"] : undefined;
  const keyOf = (option: string): string => {
    const [, first = "", rest = ""] = /^(\w+)(.*)$/.exec(option) ?? [];
    const from = reader.origins[first as keyof RawOptions];
    return from === undefined ? option : (keys[from] ?? from) + rest;
  };
  config.services.push({ name, options, pathOf: (option) => `${path}.${keyOf(option)}` });
}

function addNotes(
  { notes }: ConfigFile,
  path: string,
  app: Readonly<Record<string, unknown>>,
  keys: Readonly<Record<string, string>>,
): void {
  for (const key of Object.keys(app)) {
    if (key in SUPPORTED || key.startsWith("env_")) continue;
    const instead = UNSUPPORTED[key];
    const name = `${path}.${keys[key]}`;
    if (instead === undefined) {
      const meant = nearest(key, [...Object.keys(SUPPORTED), ...Object.keys(UNSUPPORTED)]);
      notes.push(`${name} is not a key of PM2${meant === undefined ? "" : `; did you mean "${meant}"?`}`);
    } else if (asksForMore(key, app)) notes.push(`${name} is not used: ${instead}`);
  }
}

type Fail = (key: string, expected: string) => void;

/** Reads the keys that have a counterpart. */
class AppReader {
  /** The key from which an option was made. */
  readonly origins: Partial<Record<keyof RawOptions, string>> = {};
  readonly #app: Readonly<Record<string, unknown>>;
  readonly #directory: string;
  readonly #fail: Fail;
  readonly #options: RawOptions = {};

  constructor(app: Readonly<Record<string, unknown>>, directory: string, fail: Fail) {
    this.#app = app;
    this.#directory = directory;
    this.#fail = fail;
  }

  read(environment: string | undefined): RawOptions {
    const { name, cwd, pid_file, max_memory_restart } = this.#app;
    this.#set("cwd", "cwd", cwd);
    this.#readProgram();
    // PM2 makes a name of the script, too; a name may have blanks there.
    const { script } = this.#app;
    const given = name ?? (typeof script === "string" ? basename(script, extname(script)) : undefined);
    this.#set("name", "name", typeof given === "string" ? toServiceName(given) : given);
    this.#set("workers", "instances", this.#readInstances());
    this.#set("env", "env", this.#readVariables(environment));
    this.#set("maxMemory", "max_memory_restart", numeric(max_memory_restart));
    this.#set("pidFile", "pid_file", pid_file);
    this.#set("readyTimeout", "listen_timeout", numeric(this.#app["listen_timeout"]));
    this.#readRestarts();
    return this.#options;
  }

  #set(option: keyof RawOptions, key: string, value: unknown): void {
    if (value === undefined) return;
    this.#options[option] = value;
    this.origins[option] = key;
  }

  #readProgram(): void {
    const { script, interpreter, cwd } = this.#app;
    const args = this.#words("args");
    const nodeArgs = this.#words("node_args");
    this.origins.program = "script";
    if (typeof script !== "string") return this.#set("program", "script", script);
    const directory = typeof cwd === "string" ? resolve(this.#directory, cwd) : this.#directory;
    const isFile = existsSync(resolve(directory, script));
    if (/\s/.test(script) && !isFile) {
      this.#set("program", "script", "sh");
      return this.#set("args", "args", ["-c", script]);
    }
    const own = isFile ? INTERPRETERS[extname(script)] : undefined;
    const chosen = interpreter ?? own ?? "node";
    if (typeof chosen !== "string" || chosen.startsWith("node@")) {
      this.#fail("interpreter", "the name or the path of a program");
    }
    if (typeof chosen !== "string" || /^(node|none)(@|$)/.test(chosen)) {
      const sourceMaps = this.#app["source_map_support"] === true ? ["--enable-source-maps"] : [];
      this.#set("program", "script", script);
      this.#set("args", "args", args);
      const all = [...nodeArgs, ...sourceMaps];
      if (all.length > 0) this.#set("nodeArgs", "node_args", all);
      return;
    }
    this.#set("program", "interpreter", chosen);
    this.#set("args", "args", [...nodeArgs, isFile ? resolve(directory, script) : script, ...args]);
  }

  /** A text is split as a shell would do it. */
  #words(key: string): string[] {
    const value = this.#app[key];
    if (value === undefined) return [];
    if (Array.isArray(value) && value.every((one) => typeof one === "string" || typeof one === "number")) {
      return value.map(String);
    }
    if (typeof value !== "string") {
      this.#fail(key, "a text or an array of texts");
      return [];
    }
    try {
      return splitWords(value);
    } catch (error) {
      this.#fail(key, `words that can be told apart (${reasonOf(error)})`);
      return [];
    }
  }

  /** 0 and below count from the number of processors. */
  #readInstances(): unknown {
    const value = numeric(this.#app["instances"] ?? 1);
    if (value === "max" || typeof value !== "number" || !Number.isInteger(value) || value > 0) return value;
    return Math.max(1, usableProcessors() + value);
  }

  #readVariables(environment: string | undefined): NodeJS.ProcessEnv {
    const { port } = this.#app;
    const variables: NodeJS.ProcessEnv = {};
    for (const key of ["env", ...(environment === undefined ? [] : [`env_${environment}`])]) {
      const given = this.#app[key];
      if (given === undefined) continue;
      if (!isObject(given)) this.#fail(key, "an object of variables");
      else for (const [name, value] of Object.entries(given)) variables[name] = textOf(value);
    }
    return port === undefined ? variables : { ...variables, PORT: textOf(port) };
  }

  /** PM2 gives up after `max_restarts` exits in a row of which each came within `min_uptime`. */
  #readRestarts(): void {
    const { max_restarts, min_uptime, autorestart } = this.#app;
    const { exp_backoff_restart_delay, restart_delay } = this.#app;
    this.#set("restarts", "max_restarts", numeric(max_restarts));
    if (autorestart === false) this.#set("restarts", "autorestart", 0);
    const most = numeric(max_restarts ?? DEFAULT_RESTARTS);
    if (min_uptime !== undefined) {
      const each = time(min_uptime);
      if (each === undefined) this.#fail("min_uptime", 'ms, or a text such as "10s"');
      else if (typeof most === "number") this.#set("restartWindow", "min_uptime", Math.max(1, each * most));
    }
    this.#set("backoff", "restart_delay", numeric(restart_delay));
    this.#set("backoff", "exp_backoff_restart_delay", numeric(exp_backoff_restart_delay));
  }
}

/** Of PM2. */
const DEFAULT_RESTARTS = 16;

/** PM2 starts these files by these programs. */
const INTERPRETERS: Readonly<Record<string, string>> = {
  ".sh": "bash",
  ".py": "python",
  ".rb": "ruby",
  ".php": "php",
  ".pl": "perl",
};

/** PM2 reads a number that is written as a text. */
function numeric(value: unknown): unknown {
  return typeof value === "string" && /^-?\d{1,15}$/.test(value) ? Number(value) : value;
}

/** ms; undefined for another text. */
function time(value: unknown): number | undefined {
  const [, digits, unit = ""] = /^(\d{1,10})(ms|s|m|h)?$/.exec(show(value).replaceAll('"', "")) ?? [];
  return digits === undefined ? undefined : Number(digits) * (UNITS[unit] ?? 1);
}

const UNITS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000 };

/** As PM2 makes them: an object becomes JSON. */
function textOf(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

function show(value: unknown): string {
  return typeof value === "object" ? kindOf(value) : JSON.stringify(value);
}
