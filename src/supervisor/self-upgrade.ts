import { realpathSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import type { Replacement } from "../control/session.js";
import { HandoverError, reasonOf } from "../errors.js";
import { builtins } from "../platform/builtins.js";
import { native, systemError } from "../platform/native.js";
import { findOnPath } from "../platform/path.js";
import { successorCommand, type Command } from "../process/command.js";
import { launchInfo, type LaunchInfo } from "../process/launch-info.js";
import { scriptOf } from "../process/node-words.js";
import { systemClock } from "../util/clock.js";
import type { OwnBinding } from "./own-binding.js";
import { report } from "./report.js";
import {
  checkEnvironment,
  newState,
  replaceProgram,
  writeState,
  type Execution,
  type InheritedState,
  type SupervisorState,
} from "./state.js";
import type { Supervisor } from "./supervisor.js";

/** What a program says that can go on with the service. */
export interface CheckAnswer {
  readonly answer: "can go on";
  readonly version: string;
}

/**
 * Upgrades the supervisor itself: the next version of its program replaces it in this process, which keeps its PID, its workers
 * and its descriptors.
 */
export class SelfUpgrade {
  readonly #supervisor: Supervisor;
  readonly #binding: OwnBinding;
  readonly #launch: LaunchInfo;
  /** This program by its file: the words that have started it may lead to the next version by then. */
  readonly #own: Execution;
  #number: number;

  /** @param inherited from the program that this process was before */
  constructor(supervisor: Supervisor, binding: OwnBinding, inherited: InheritedState | undefined) {
    this.#supervisor = supervisor;
    this.#binding = binding;
    const failure = inherited?.failure;
    this.#launch = failure === undefined ? launchInfo : inherited!.state.launch;
    this.#own = ownExecution();
    this.#number = inherited?.state.number ?? 0;
    if (inherited !== undefined)
      supervisor.lastReplacement = {
        number: this.#number,
        ...(failure === undefined ? {} : { reason: failure }),
      };
  }

  /**
   * Asks the next version whether it can go on.
   *
   * @throws {HandoverError} `ERR_CHILD_EXITED`, `ERR_SPAWN`, `ERR_UPGRADE_TIMEOUT`, and as `Supervisor.beginReplacement()`
   */
  async prepare(): Promise<Replacement> {
    if (this.#supervisor.settings.prefix) {
      // It would lose the pipes on which its workers print, and half lines.
      throw new HandoverError("ERR_NOT_SUPPORTED", "the supervisor is not upgraded with --prefix");
    }
    this.#supervisor.beginReplacement();
    try {
      const command = successorCommand(this.#launch, {});
      const next = executionOf(command);
      const version = await rehearse(next, command.cwd, this.#state(this.#number + 1));
      const number = ++this.#number;
      let hasBegun = false;
      const begin = (): void => {
        if (!hasBegun) void this.#replace(next, command.cwd, number);
        hasBegun = true;
      };
      return { number, version, begin };
    } catch (error) {
      this.#supervisor.endReplacement();
      throw error;
    }
  }

  /** Does not return if it succeeds. */
  async #replace(next: Execution, cwd: string, number: number): Promise<void> {
    try {
      await this.#quiet();
      // In this turn, without an `await` in between: no message of a worker is lost.
      const directory = process.cwd();
      process.chdir(cwd);
      const result = replaceProgram(next, this.#state(number));
      process.chdir(directory);
      throw systemError(result, "execute", next.file);
    } catch (error) {
      const reason = reasonOf(error);
      report(`the supervisor was not upgraded: ${reason}`);
      this.#supervisor.lastReplacement = { number, reason };
      this.#supervisor.endReplacement();
    }
  }

  /** Waits until nothing of the workers is under way. A worker that is being started, or asks for a listener, is soon done. */
  async #quiet(): Promise<void> {
    const deadline = performance.now() + QUIET_TIMEOUT;
    while (!this.#supervisor.isQuiet) {
      if (performance.now() > deadline || this.#supervisor.state !== "ready")
        throw new HandoverError("ERR_UNRESPONSIVE", `the workers were not quiet within ${QUIET_TIMEOUT} ms`);
      await setTimeout(LOOK_EVERY);
    }
  }

  #state(number: number): SupervisorState {
    const service = this.#supervisor.serviceState;
    return newState({
      service,
      control: this.#binding.item,
      number,
      former: this.#own,
      launch: this.#launch,
    });
  }
}

/** ms in which the requests of the workers have to be answered. */
const QUIET_TIMEOUT = 5_000;

/** ms between two looks. */
const LOOK_EVERY = 5;

/** ms in which the next version has to answer. */
const CHECK_TIMEOUT = 30_000;

/** Starts a program beside this one, with a copy of the state. Resolves with its version. */
async function rehearse(next: Execution, cwd: string, state: SupervisorState): Promise<string> {
  const doing = "cannot upgrade the supervisor";
  const [fd, size] = writeState(state);
  let cancel: (() => void) | undefined;
  try {
    const [argv0 = next.file, ...args] = next.words;
    const child = builtins.childProcess.spawn(next.file, args, {
      argv0,
      cwd,
      env: checkEnvironment(next.env, size),
      stdio: ["ignore", "pipe", "pipe", fd],
    });
    // A process that cannot be started for want of descriptors has no streams.
    const streams: (typeof child.stdout | undefined)[] = [child.stdout, child.stderr];
    const [stdout, stderr] = streams.map(
      async (one) =>
        one
          ?.setEncoding("utf8")
          .toArray()
          .catch(() => []) ?? [],
    );
    const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
      child.once("error", (cause) =>
        reject(new HandoverError("ERR_SPAWN", `${doing}: ${reasonOf(cause)}`, { cause })),
      );
      child.once("close", (...end) => resolve(end));
      // The timer of spawn() itself would keep this process if the child cannot be started.
      cancel = systemClock.after(CHECK_TIMEOUT, () => {
        child.kill("SIGKILL");
        // What it has started may hold them open.
        for (const one of streams) one?.destroy();
        const message = `${doing}: the new version did not answer within ${CHECK_TIMEOUT} ms, and was killed`;
        reject(new HandoverError("ERR_UPGRADE_TIMEOUT", message));
      });
    });
    const answer = parseAnswer((await stdout!).join(""));
    if (code === 0 && answer !== undefined) return answer.version;
    const said = (await stderr!).join("").trim().split("\n").at(-1);
    const how = code === null ? `was killed by ${signal}` : `exited with code ${code}`;
    const message = `${doing}: the new version ${how}${code === 0 ? " without an answer" : ""}${said ? `: ${said}` : ""}`;
    throw new HandoverError("ERR_CHILD_EXITED", message);
  } finally {
    cancel?.();
    native().close(fd);
  }
}

/** The program may print other lines, too. */
function parseAnswer(text: string): CheckAnswer | undefined {
  const answers = text.split("\n").flatMap((line): Partial<CheckAnswer>[] => {
    try {
      return [JSON.parse(line) as Partial<CheckAnswer>];
    } catch {
      return [];
    }
  });
  return answers.find((one): one is CheckAnswer => one?.answer === "can go on");
}

/** @throws {HandoverError} `ERR_SPAWN` */
function executionOf({ file, argv0, args, cwd, env }: Command): Execution {
  const [found] = file.includes("/") ? [file] : findOnPath(file, env["PATH"] ?? "", cwd);
  if (found === undefined)
    throw new HandoverError(
      "ERR_SPAWN",
      `cannot upgrade the supervisor: there is no command ${file} on PATH`,
    );
  return { file: found, words: [argv0, ...args], env };
}

function ownExecution(): Execution {
  const { argv, env } = launchInfo;
  const script = scriptOf(argv.slice(1));
  const main = process.argv[1];
  const words = argv.map((word) => (word === script && main !== undefined ? realpathSync(main) : word));
  const own = Object.entries(env).filter(([name]) => !name.startsWith("HANDOVER_STATE"));
  return { file: process.execPath, words, env: Object.fromEntries(own) };
}
