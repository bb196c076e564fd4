import { InvalidArgumentError, Option, type Command } from "commander";
import { resolve } from "node:path";
import { isPath } from "../../supervisor/program.js";
import { numberOrMax, timeWithUnit } from "../process-options.js";
import { splitWords } from "../unit-file/quote.js";
import type { RawOptions } from "./config-file.js";

/** What the command line says, apart from the program. */
export interface Flags {
  workers?: number | "max";
  rolling?: number;
  name?: string;
  pidFile?: string;
  control?: string;
  envFile?: string;
  config?: string;
  env?: string;
  readyTimeout?: number;
  probation?: number;
  hangTimeout?: number;
  stopTimeout?: number;
  restarts?: number;
  restartWindow?: number;
  backoff?: number;
  maxMemory?: string;
  health?: string[];
  healthCommand?: string;
  sticky?: "ip";
  rebalance?: boolean;
  prefix?: true;
  auto?: true;
  dryRun?: true;
  json?: true;
}

/** Adds the flags. */
export function withFlags(command: Command): Command {
  return command
    .option("--workers <n>", "number of workers, or max: one for each processor (default)", numberOrMax)
    .option("--name <name>", "name of the service, or which one of --config; default: that of the package")
    .option("--pid-file <file>", "file that names this process")
    .option("--control <socket>", "socket on which this process answers; default: beside the PID file")
    .option("--env-file <file>", "variables of the workers; read again at each upgrade")
    .option("--config <file>", "handover.config.json, or an ecosystem file of PM2")
    .option("--env <name>", "with a file of PM2: use its env_<name>, too")
    .option("--rolling <k>", "workers that an upgrade replaces at a time; default: all", number)
    .option("--ready-timeout <time>", "time in which a worker has to be ready; default 60s", time)
    .option("--probation <time>", "time in which a new worker that dies is rolled back; default 3s", time)
    .option("--hang-timeout <time>", "silence after which a worker is replaced; default 30s, 0: off", time)
    .option("--stop-timeout <time>", "time in which a stop has to end; default: that of the workers", time)
    .option("--restarts <n>", "restarts of a worker that crashes; then it is given up; default 10", number)
    .option("--restart-window <time>", "time in which its crashes count; default 60s", time)
    .option("--backoff <time>", "delay before a second restart, which doubles up to 30s; default 100ms", time)
    .option("--max-memory <size>", "replace a worker that has more memory, such as 512M")
    .option("--health <path>", "ask each worker for this path, or NAME:/path; repeatable", collect)
    .addOption(
      new Option("--health-command <command>", "run this for each worker instead").conflicts("health"),
    )
    .addOption(new Option("--sticky <by>", "keep the clients of an address at one worker").choices(["ip"]))
    .option("--rebalance", "move idle connections between workers (default)")
    .option("--no-rebalance", "leave them where they are")
    .option("--prefix", "begin each line that a worker prints with its index")
    .option("--auto", "let handover take over the servers of a program that does not know of it")
    .option("--dry-run", "check everything and print the settings; start nothing")
    .option("--json", "print errors, and the settings of --dry-run, as JSON");
}

/** The flag of an option, for an error. */
export function flagOf(option: string): string {
  const [name = ""] = /^\w+/.exec(option) ?? [];
  if (name === "program" || name === "args") return "the program";
  if (name === "controlSocket") return "--control";
  if (option.startsWith("health.command")) return "--health-command";
  return `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/**
 * The options that the command line sets.
 *
 * @param here where its relative paths begin
 */
export function optionsOf(flags: Flags, [program, ...args]: readonly string[], here: string): RawOptions {
  const { pidFile, control, envFile, health, healthCommand, config, env, dryRun, json, ...same } = flags;
  const path = (given: string | undefined): string | undefined => given && resolve(here, given);
  const options: RawOptions = {
    ...same,
    pidFile: path(pidFile),
    controlSocket: path(control),
    envFile: path(envFile),
    health: healthCommand === undefined ? health : { command: splitWords(healthCommand) },
    // With a file its directory would be the one in which the program is looked up.
    program: program !== undefined && isPath(program) ? resolve(here, program) : program,
    args: program === undefined ? undefined : args,
  };
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

function number(text: string): number {
  if (/^\d{1,10}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("It must be a whole number.");
}

function time(text: string): number {
  return /^0(ms|s|m|h)?$/.test(text) ? 0 : timeWithUnit(text);
}

function collect(value: string, before: string[] = []): string[] {
  return [...before, value];
}
