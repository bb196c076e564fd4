import { HandoverError, reasonOf } from "../errors.js";
import { TIMED_OUT, withTimeout } from "../util/timeout.js";
import { functionsOf, milliseconds, refuseUnknown, wrongOption } from "../util/validation.js";

/** Work that exactly one generation does: a cron job, a queue consumer, a file lock. */
export interface RoleDefinition {
  /**
   * Begins the work. `fence` is above that of every earlier holder. If it throws, or is late, `ready()` rejects.
   */
  acquire(context: { fence: number }): unknown;
  /**
   * Ends the work: when it returns, no part of the work runs in this process. If it throws, or is late, the upgrade fails.
   */
  release(): unknown;
  /** The time, in ms, that each of the two may take. Default 5 000. */
  timeout?: number;
  /**
   * Who has the role: `"host"`: one generation, or one worker of all. `"global"`: one process of all hosts, by the option
   * `exchange` of the `Upgrader`. It is released when the lease of this process ends. Default `"host"`.
   */
  scope?: "host" | "global";
}

/** One role of this process, which it holds or not. */
export class Role {
  readonly name: string;
  readonly #definition: Required<RoleDefinition>;
  #isHeld = false;
  #isBusy = false;
  /** The last call of the program's functions, which may still run after its timeout. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(name: string, definition: Required<RoleDefinition>) {
    this.name = name;
    this.#definition = definition;
  }

  /** Whether a function of the program still runs, perhaps after its timeout. */
  get isBusy(): boolean {
    return this.#isBusy;
  }

  get isHeld(): boolean {
    return this.#isHeld;
  }

  /** Resolves when no function of the program runs, also none that is late. */
  get idle(): Promise<unknown> {
    return this.#last;
  }

  /** Returns why the role could not be acquired in time. */
  async acquire(fence: number): Promise<HandoverError | undefined> {
    return this.#call("acquire", async () => {
      if (this.#isHeld) return;
      await this.#definition.acquire({ fence });
      this.#isHeld = true;
    });
  }

  /** Returns why the role could not be released in time. A role whose `release` throws is still held. */
  async release(): Promise<HandoverError | undefined> {
    return this.#call("release", async () => {
      if (!this.#isHeld) return;
      await this.#definition.release();
      this.#isHeld = false;
    });
  }

  /** A call waits for the one before it, also for one that is late: the two must not run at the same time. */
  async #call(verb: "acquire" | "release", run: () => Promise<void>): Promise<HandoverError | undefined> {
    const { timeout } = this.#definition;
    const done = this.#last.then(async () => {
      this.#isBusy = true;
      await run().finally(() => (this.#isBusy = false));
    });
    this.#last = done.catch(() => {});
    const fail = (reason: string, cause?: unknown): HandoverError =>
      new HandoverError("ERR_ROLE", `cannot ${verb} the role "${this.name}": ${reason}`, { cause });
    try {
      const result = await withTimeout(timeout, done);
      return result === TIMED_OUT ? fail(`it took more than ${timeout} ms`) : undefined;
    } catch (error) {
      return fail(reasonOf(error), error);
    }
  }
}

/**
 * Fills in the defaults of a role.
 *
 * @throws {HandoverError} `ERR_OPTION`
 */
export function readRole(name: string, definition: RoleDefinition): Required<RoleDefinition> {
  refuseUnknown(`role("${name}")`, definition, ["acquire", "release", "timeout", "scope"]);
  const { timeout = 5_000, scope = "host" } = definition;
  if (scope !== "host" && scope !== "global") throw wrongOption("scope", '"host" or "global"', scope);
  return {
    ...functionsOf(definition, ["acquire", "release"], []),
    timeout: milliseconds("timeout", timeout, 1),
    scope,
  };
}
