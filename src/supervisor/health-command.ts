import { openSync } from "node:fs";
import { Socket } from "node:net";
import { reasonOf } from "../errors.js";
import { startProgram } from "../platform/child-process.js";
import { closeAll } from "../platform/descriptors.js";
import { check, native } from "../platform/native.js";
import { TIMED_OUT, withTimeout } from "../util/timeout.js";
import { isShortage } from "./shortage.js";
import type { SupervisorSettings } from "./settings.js";
import { workerCommand } from "./worker-command.js";
import type { WorkerProcess } from "./worker-process.js";

/**
 * Runs a command for one worker, in its directory and with its environment, and with HANDOVER_WORKER_PID. Resolves with what
 * is wrong; undefined if it exits with 0 within `timeout` ms.
 */
export async function runHealthCommand(
  settings: SupervisorSettings,
  [file = "", ...args]: readonly string[],
  worker: WorkerProcess,
  timeout: number,
): Promise<string | undefined> {
  const [own, other] = check(native().streamPair(), "make", "a pair of sockets");
  const errors = new LastLine(own);
  const given = [other];
  try {
    const nowhere = openSync("/dev/null", "r+");
    given.push(nowhere);
    const { cwd, env } = workerCommand(settings, worker.index);
    const variables = { ...env, HANDOVER_WORKER_PID: String(worker.pid) };
    // A shell that is killed leaves what it has started, which would run on and pile up from check to check.
    const program = { file, argv0: file, args, cwd, env: variables, leadsGroup: true };
    const child = await startProgram(program, [nowhere, nowhere, other]);
    // Its stderr ends only when this process has closed it, too.
    closeAll(given.splice(0));
    const end = await withTimeout(timeout, child.exited);
    if (end === TIMED_OUT) {
      child.kill();
      return `${file} did not exit within ${timeout} ms`;
    }
    const { code, signal } = end;
    if (code === 0) return undefined;
    const how = signal === null ? `exited with ${code ?? "an unknown code"}` : `was ended by ${signal}`;
    const line = await errors.read();
    return `${file} ${how}${line === "" ? "" : `: ${line}`}`;
  } catch (error) {
    if (isShortage(error)) throw error;
    return reasonOf(error);
  } finally {
    errors.close();
    closeAll(given);
  }
}

/** What a command has written last. */
class LastLine {
  readonly #socket: Socket;
  readonly #ended: Promise<void>;
  #text = "";

  /** @param fd this object's own from now on */
  constructor(fd: number) {
    this.#socket = new Socket({ fd, readable: true, writable: false });
    this.#ended = new Promise((resolve) => this.#socket.once("close", () => resolve()));
    this.#socket.on("error", () => {});
    this.#socket
      .setEncoding("utf8")
      .on("data", (chunk: string) => (this.#text = (this.#text + chunk).slice(-LONGEST)));
  }

  /** The command has exited. A process that it has left may still hold its stderr. */
  async read(): Promise<string> {
    if ((await withTimeout(LAST_WORDS, this.#ended)) === TIMED_OUT) this.#socket.destroy();
    return this.#text.trimEnd().split("\n").at(-1)!.trim();
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** Characters of a line. */
const LONGEST = 500;

/** ms in which the last words of a command that has exited are read. */
const LAST_WORDS = 1_000;
