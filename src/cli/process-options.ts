import { InvalidArgumentError, Option, type Command } from "commander";
import { ControlClient } from "../control/client.js";
import { connectToPid, connectToPidFile } from "../control/discover.js";

/** What says which process is meant, and how to answer. */
export interface ProcessOptions {
  pidFile?: string;
  control?: string;
  json?: true;
}

/** Gives a command the ways to name a process. */
export function withProcessOptions(command: Command): Command {
  return command
    .argument("[pid]", "the process, by its PID", wholeNumber)
    .addOption(new Option("--pid-file <file>", "the process that a PID file names").conflicts("control"))
    .option("--control <socket>", "the process that has this control socket")
    .option("--json", "print JSON, one object a line");
}

/** Connects to the process that is meant. */
export async function connectToProcess(
  pid: number | undefined,
  { pidFile, control }: ProcessOptions,
  command: Command,
): Promise<ControlClient> {
  if ([pid, pidFile, control].filter((one) => one !== undefined).length !== 1) {
    command.error("say which process: by its PID, by --pid-file or by --control");
  }
  if (pidFile !== undefined) return connectToPidFile(pidFile);
  return control === undefined ? connectToPid(pid!) : ControlClient.connect(control);
}

/** A number of an argument or option, from 1 on. */
export function wholeNumber(text: string): number {
  if (/^[1-9]\d{0,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("It must be a whole number from 1 on.");
}
