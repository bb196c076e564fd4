import type { Server } from "node:net";
import type { HandoverError } from "../errors.js";
import { Upgrader } from "../upgrader.js";
import type { ListenWish } from "./listen-arguments.js";
import { readAutoOptions } from "./options.js";
import type { ProgramExit } from "./program-exit.js";

/** The servers of a program that does not know of handover, and the Upgrader that was made for it. */
export class AutoUpgrader {
  readonly #upg: Upgrader;
  /** Calls of `listen()` that are not answered yet. */
  #pending = 0;
  #quiet: NodeJS.Timeout | undefined;
  readonly #isManual: boolean;

  constructor(exit: ProgramExit) {
    const options = readAutoOptions(process.env, process.argv[1] ?? process.cwd());
    this.#isManual = process.env["HANDOVER_READY"] === "manual";
    this.#upg = new Upgrader({ ...options, signals: { upgrade: "SIGHUP", stop: [] } });
    exit.take(() => void this.#upg.stop());
    void this.#upg.exit.then(() => exit.end(options.exitTimeout ?? EXIT_TIMEOUT));
  }

  /** Declares the program initialised, in place of the wait for a quiet moment. */
  async ready(): Promise<void> {
    clearTimeout(this.#quiet);
    await this.#upg.ready();
  }

  /** Does what Node's `listen()` does, on a listener of the service. */
  listen(server: Server, { options, callback }: ListenWish): void {
    if (callback !== undefined) server.once("listening", callback);
    this.#pending++;
    clearTimeout(this.#quiet);
    this.#upg
      // A program may wait for the event `listening` before it goes on.
      .listen(server, { ...options, early: true })
      .catch((error: HandoverError) => server.emit("error", asNodeError(error, options)))
      .finally(() => {
        this.#pending--;
        this.#awaitQuiet();
      });
  }

  #awaitQuiet(): void {
    if (this.#isManual || this.#pending > 0 || this.#upg.state !== "starting") return;
    const time = this.#upg.generation === 0 ? 0 : QUIET;
    this.#quiet = setTimeout(() => {
      void this.#upg.ready().catch((error: unknown) => process.emitWarning(error as Error));
    }, time);
  }
}

/** The error that Node emits for an address that cannot be bound. */
function asNodeError(error: HandoverError, { port, host, path }: ListenWish["options"]): Error {
  const { code, errno } = (error.cause ?? error) as NodeJS.ErrnoException;
  if (code === undefined || errno === undefined) return error;
  const address = path ?? host ?? "::";
  const where = path ?? `${address}:${port}`;
  const known = code === "EADDRINUSE" ? "address already in use " : "";
  const node = new Error(`listen ${code}: ${known}${where}`, { cause: error });
  return Object.assign(node, {
    code,
    errno,
    syscall: "listen",
    address,
    ...(port === undefined ? {} : { port }),
  });
}

/** ms without a call of `listen()` after which a successor counts as initialised. */
const QUIET = 100;

/** ms, as of the option. */
const EXIT_TIMEOUT = 10_000;
