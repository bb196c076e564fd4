import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { UpgraderOptions } from "../options.js";
import { wrongOption } from "../util/validation.js";

/** The options that can be given without a line of code, by the names of their variables. */
const VARIABLES = {
  HANDOVER_PID_FILE: ["pidFile", String],
  HANDOVER_CONTROL_SOCKET: ["controlSocket", (text: string) => (text === "false" ? false : text)],
  HANDOVER_UPGRADE_TIMEOUT: ["upgradeTimeout", number],
  HANDOVER_DRAIN_TIMEOUT: ["drainTimeout", number],
  HANDOVER_EXIT_TIMEOUT: ["exitTimeout", number],
  HANDOVER_PROBATION: ["probation", number],
  HANDOVER_MAX_DRAINING: ["maxDraining", number],
  HANDOVER_TLS: ["tls", truth],
  HANDOVER_UNMANAGED: ["unmanaged", String],
  HANDOVER_UPGRADE_SIGNAL: ["signals", (text: string) => ({ upgrade: text === "false" ? false : text })],
  HANDOVER_COMPILE_CACHE: ["compileCache", (text: string) => (text === "true" ? true : text)],
} as const satisfies Record<string, readonly [keyof UpgraderOptions, (text: string) => unknown]>;

/** Text that is no number stays as it is, for the message. */
function number(text: string): number | string {
  const value = Number(text);
  return Number.isNaN(value) ? text : value;
}

/** Text that is neither stays as it is, for the message. */
function truth(text: string): boolean | string {
  return text === "true" || text === "false" ? text === "true" : text;
}

/** The variables of the options, for the documentation and its test. */
export const OPTION_VARIABLES = [...Object.keys(VARIABLES), "HANDOVER_WEBSOCKETS"];

/** What a program that does not know of handover has chosen. */
interface AutoOptions {
  options: UpgraderOptions;
  /** Whether WebSockets move although no state of theirs is saved. */
  moveWebSockets: boolean;
}

/**
 * The options of a program that does not know of handover: the key `handover` of its package.json, and the environment, which
 * wins. They are checked where they are used.
 *
 * @param script the program's file
 */
export function readAutoOptions(env: NodeJS.ProcessEnv, script: string): AutoOptions {
  const { webSockets, ...options }: Record<string, unknown> = { ...packageOptions(dirname(script)) };
  for (const [variable, [name, read]] of Object.entries(VARIABLES)) {
    const text = env[variable];
    if (text !== undefined && text !== "") options[name] = read(text);
  }
  const choice = env["HANDOVER_WEBSOCKETS"] || (webSockets ?? "stay");
  if (choice !== "move" && choice !== "stay") throw wrongOption("webSockets", '"move" or "stay"', choice);
  return { options, moveWebSockets: choice === "move" };
}

/** Of the nearest package.json, from a directory upwards. */
function packageOptions(directory: string): object {
  try {
    const manifest = JSON.parse(readFileSync(join(directory, "package.json"), "utf8")) as {
      handover?: unknown;
    };
    return typeof manifest.handover === "object" && manifest.handover !== null ? manifest.handover : {};
  } catch (error) {
    // A file that is not JSON ends Node before.
    const parent = dirname(directory);
    return (error as NodeJS.ErrnoException).code === "ENOENT" && parent !== directory
      ? packageOptions(parent)
      : {};
  }
}
