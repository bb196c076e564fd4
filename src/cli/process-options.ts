import type { Command } from "commander";
import { ControlClient } from "../control/client.js";
import { connectToPid, connectToPidFile } from "../control/discover.js";
import { LONGEST_TIMEOUT } from "../util/clock.js";
import { addOptions, InvalidValue, type CommandOption } from "./option.js";
import { WrongUsage } from "./output.js";

/** Options that name a process, and the format of the output. */
export interface ProcessOptions {
  pidFile?: string;
  control?: string;
  json?: true;
}

export const PROCESS_OPTIONS: readonly CommandOption[] = [
  { flags: "--pid-file <file>", text: "PID file of the process", conflicts: "control" },
  { flags: "--control <socket>", text: "control socket of the process" },
  { flags: "--json", text: "print JSON, one object per line" },
];

/** Adds what names a process: its PID, and the options of {@link PROCESS_OPTIONS} unless there are others. */
export function withProcessOptions(command: Command, options = PROCESS_OPTIONS): Command {
  const text = "PID of the process; default: that of the only service of this user";
  return addOptions(command.argument("[pid]", text, wholeNumber), options);
}

/** Options of the commands that start the new code. */
export interface AttemptOptions extends ProcessOptions {
  timeout?: number;
  force?: true;
}

/**
 * The options of a command that starts the new code.
 *
 * @param doing what `--force` allows: `upgrade`
 */
export function attemptOptions(doing: string): CommandOption[] {
  return [
    {
      flags: "--timeout <ms>",
      text: "give up after this time, if the process's own upgradeTimeout is longer",
      parse: milliseconds,
    },
    {
      flags: "--force",
      text: `${doing} under a process manager such as PM2, too, which is refused otherwise`,
    },
  ];
}

/** These options as a request has them. */
export function attemptOf({ timeout, force }: AttemptOptions): { timeout?: number; force?: true } {
  return { ...(timeout === undefined ? {} : { timeout }), ...(force === undefined ? {} : { force }) };
}

/** How a command line names a process. */
const WAYS = "by its PID, --pid-file or --control";

/**
 * Connects to the process that the options name; without them to the only service of this user.
 *
 * @throws {WrongUsage} if they name several
 */
export async function connectToProcess(
  pid: number | undefined,
  { pidFile, control }: ProcessOptions,
): Promise<ControlClient> {
  if ([pid, pidFile, control].filter((one) => one !== undefined).length > 1) {
    throw new WrongUsage([`name one process: ${WAYS}`]);
  }
  if (pidFile !== undefined) return connectToPidFile(pidFile);
  if (control !== undefined) return ControlClient.connect(control);
  if (pid !== undefined) return connectToPid(pid);
  // The search needs modules that no other way does.
  return (await import("./only-service.js")).connectToOnlyService(WAYS);
}

/** Reads an option that is a time. */
export function milliseconds(text: string): number {
  if (!(Number(text) > LONGEST_TIMEOUT)) return wholeNumber(text);
  throw new InvalidValue(`It must be at most ${LONGEST_TIMEOUT} ms.`);
}

/** Reads an option that is a time with a unit, `60s`; without a unit it is in ms. */
export function timeWithUnit(text: string): number {
  const [, digits = "", unit = "ms"] = /^(\d+)(ms|s|m|h)?$/.exec(text) ?? [];
  if (digits === "") throw new InvalidValue("It must be a time, such as 500ms, 60s, 5m or 1h.");
  return milliseconds(String(Number(digits) * UNITS[unit]!));
}

const UNITS: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** Reads an argument or option that is a number from 1 on. */
export function wholeNumber(text: string): number {
  if (/^[1-9]\d{0,9}$/.test(text)) return Number(text);
  throw new InvalidValue(
    /^[1-9]\d*$/.test(text) ? "It is too large." : "It must be a whole number, at least 1.",
  );
}

/** Reads an option that is a number of workers. */
export function numberOrMax(text: string): number | "max" {
  if (text === "max") return text;
  if (/^\d{1,10}$/.test(text)) return Number(text);
  throw new InvalidValue("It must be a whole number, or max.");
}
