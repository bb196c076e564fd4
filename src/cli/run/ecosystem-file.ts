import { spawn, type ChildProcess } from "node:child_process";
import type { Readable } from "node:stream";
import { HandoverError, reasonOf } from "../../errors.js";
import { isObject, kindOf, LONGEST, readConfigText, requireNames, type ConfigFile } from "./config-file.js";
import { addApp } from "./pm2-app.js";

/**
 * Reads an ecosystem file of PM2. It is a program: a child process runs it, and only the JSON of its export is read.
 *
 * @param directory where PM2 would be started: its relative paths begin there
 * @param environment of `env_<environment>`
 * @throws {HandoverError} `ERR_OPTION` if it does not export settings within 10 s
 */
export async function readEcosystem(
  file: string,
  directory: string,
  environment: string | undefined,
): Promise<ConfigFile> {
  if (/\.ya?ml$/.test(file)) {
    throw new HandoverError("ERR_OPTION", `cannot read ${file}: YAML is not read; write it as JSON`);
  }
  // The errors of a missing file are those of other files.
  readConfigText(file);
  const root = await evaluate(file, directory);
  const config: ConfigFile = { file, directory, services: [], faults: [], notes: [] };
  const { apps, path } = appsOf(root);
  for (const [n, app] of apps.entries()) {
    const where = Array.isArray(path) ? path[n]! : `${path}[${n}]`;
    if (isObject(app)) addApp(config, where, app, environment);
    else config.faults.push(`${where} must be an object, not ${kindOf(app)}`);
  }
  if (apps.length === 0) config.faults.push("$.apps must be an array of apps, and not empty");
  if (isObject(root)) {
    for (const [key, instead] of Object.entries(TOP_LEVEL)) {
      if (key in root) config.notes.push(`$.${key} is not used: ${instead}`);
    }
  }
  if (config.services.length > 1) requireNames(config);
  return config;
}

/** The keys beside `apps`, and what to do instead. */
export const TOP_LEVEL: Readonly<Record<string, string>> = {
  deploy: "handover copies no code to other machines; deploy as before, and then run handover upgrade",
  static: "handover serves no files; serve them by a program, or by the proxy in front",
};

/** As PM2 looks for them. */
function appsOf(root: unknown): { apps: unknown[]; path: string | string[] } {
  if (Array.isArray(root)) return { apps: root, path: "$" };
  if (!isObject(root)) return { apps: [root], path: ["$"] };
  for (const key of ["apps", "pm2"]) {
    const found = root[key];
    if (Array.isArray(found)) return { apps: found, path: `$.${key}` };
    if (found !== undefined && found !== null) return { apps: [found], path: [`$.${key}`] };
  }
  return "script" in root ? { apps: [root], path: ["$"] } : { apps: [], path: "$" };
}

/** The value that a file exports, as JSON has it. */
async function evaluate(file: string, directory: string): Promise<unknown> {
  const child = spawn(process.execPath, ["-e", PROGRAM, "--", file], {
    cwd: directory,
    // What the file prints is for people: stdout belongs to the command.
    stdio: ["ignore", 2, 2, "pipe"],
  });
  try {
    const { json, error } = JSON.parse(await answerOf(child)) as { json?: string; error?: string };
    if (json === undefined) throw new Error(error);
    return JSON.parse(json) as unknown;
  } catch (cause) {
    throw new HandoverError("ERR_OPTION", `cannot read ${file}: ${reasonOf(cause)}`, { cause });
  }
}

/** One line of the child, which is killed then: a file may have started a timer or a server. */
function answerOf(child: ChildProcess): Promise<string> {
  const pipe = child.stdio[3] as Readable;
  let text = "";
  let timer: NodeJS.Timeout | undefined;
  return new Promise<string>((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`it does not end within ${LIMIT / 1_000} s`)), LIMIT);
    child.once("error", reject);
    child.once("close", (code, signal) =>
      reject(new Error(`its process ended with ${signal ?? `code ${code}`}`)),
    );
    pipe.on("error", reject);
    pipe.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
      if (text.endsWith("\n")) resolve(text);
      else if (text.length > 2 * LONGEST) reject(new Error(`its JSON is longer than ${LONGEST} bytes`));
    });
  }).finally(() => {
    clearTimeout(timer);
    child.kill("SIGKILL");
    pipe.destroy();
  });
}

/** ms */
const LIMIT = 10_000;

/** What the child runs: it writes one line on descriptor 3. PM2 takes JSON with comments, too. */
const PROGRAM = `
const { readFileSync, writeSync } = require("node:fs");
const file = process.argv[1];
const answer = (value) => {
  let rest = Buffer.from(JSON.stringify(value) + "\\n");
  while (rest.length > 0) rest = rest.subarray(writeSync(3, rest));
  process.exit();
};
const fail = (error) => answer({ error: error instanceof Error ? error.name + ": " + error.message : String(error) });
process.on("uncaughtException", fail);
const load = async () => {
  if (file.endsWith(".json")) return [require("node:vm").runInThisContext("(" + readFileSync(file, "utf8") + ")")];
  const module = await import(require("node:url").pathToFileURL(file));
  // In an array, so that a promise that is exported is not awaited: PM2 does not, either.
  return ["default" in module ? module.default : { ...module }];
};
load().then(([value]) => {
  if (typeof value === "function") return answer({ error: "it exports a function, and not the settings" });
  if (typeof value?.then === "function") return answer({ error: "it exports a promise, and not the settings" });
  const json = JSON.stringify(value);
  if (json === undefined) return answer({ error: "it exports nothing" });
  if (Buffer.byteLength(json) > ${LONGEST}) return answer({ error: "its JSON is longer than ${LONGEST} bytes" });
  answer({ json });
}).catch(fail);
`;
