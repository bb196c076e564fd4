import { InvalidArgumentError, Option, type Command } from "commander";
import { ControlClient } from "../control/client.js";
import { connectToPid, connectToPidFile } from "../control/discover.js";
import { findServices, readStatus, startOf, type FoundService } from "../control/services.js";
import { HandoverError } from "../errors.js";
import { quoteForShell } from "./output.js";
import { LONGEST_TIMEOUT } from "../util/clock.js";

/** Options that name a process, and the format of the output. */
export interface ProcessOptions {
  pidFile?: string;
  control?: string;
  json?: true;
}

/** Adds the options that name a process. */
export function withProcessOptions(command: Command): Command {
  return command
    .argument("[pid]", "PID of the process; default: that of the only service of this user", wholeNumber)
    .addOption(new Option("--pid-file <file>", "PID file of the process").conflicts("control"))
    .option("--control <socket>", "control socket of the process")
    .option("--json", "print JSON, one object per line");
}

/** Connects to the process that the options name; without them to the only service of this user. */
export async function connectToProcess(
  pid: number | undefined,
  { pidFile, control }: ProcessOptions,
  command: Command,
): Promise<ControlClient> {
  if ([pid, pidFile, control].filter((one) => one !== undefined).length > 1) {
    command.error(`name one process: ${WAYS}`);
  }
  if (pidFile !== undefined) return connectToPidFile(pidFile);
  if (control !== undefined) return ControlClient.connect(control);
  return pid === undefined ? connectToOnlyService() : connectToPid(pid);
}

const WAYS = "by its PID, --pid-file or --control";

/** @throws {HandoverError} `ERR_CONTROL` if there is no service of this user, or more than one, or it does not answer */
async function connectToOnlyService(): Promise<ControlClient> {
  const services = await findServices();
  const [only] = services;
  if (services.length === 1 && only?.client !== undefined) return only.client;
  const names = (await Promise.all(services.map(describe))).join("; ");
  throw new HandoverError("ERR_CONTROL", whyNone(services.length, names));
}

function whyNone(found: number, names: string): string {
  if (found === 0) return `no service of this user was found; name its process ${WAYS}`;
  if (found === 1) return `the only service of this user does not answer: ${names}`;
  return `this user has ${found} services: ${names}; name one process ${WAYS}`;
}

async function describe(service: FoundService): Promise<string> {
  const status = await readStatus(service);
  if (status === undefined) return `pid ${service.pid ?? "unknown"} at ${service.path}`;
  const { command, directory } = startOf(status);
  const what =
    command === undefined ? service.path : `${command.map(quoteForShell).join(" ")} in ${directory}`;
  return `pid ${status.pid}, ${what}`;
}

/** Reads an option that is a time. */
export function milliseconds(text: string): number {
  const ms = wholeNumber(text);
  if (ms <= LONGEST_TIMEOUT) return ms;
  throw new InvalidArgumentError(`It must be at most ${LONGEST_TIMEOUT} ms.`);
}

/** Reads an option that is a time with a unit, `60s`; without a unit it is in ms. */
export function timeWithUnit(text: string): number {
  const [, digits = "", unit = "ms"] = /^(\d{1,10})(ms|s|m|h)?$/.exec(text) ?? [];
  if (digits === "") throw new InvalidArgumentError("It must be a time, such as 500ms, 60s, 5m or 1h.");
  return milliseconds(String(Number(digits) * UNITS[unit]!));
}

const UNITS: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** Reads an argument or option that is a number from 1 on. */
export function wholeNumber(text: string): number {
  if (/^[1-9]\d{0,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("It must be a whole number, at least 1.");
}
