import { HandoverError, reasonOf } from "../errors.js";
import type { FencingTokens } from "../exchange/fencing.js";
import { TIMED_OUT, withTimeout } from "../util/timeout.js";
import { functionsOf, milliseconds, refuseUnknown } from "../util/validation.js";
import { requireProgramName } from "./schema.js";

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
}

/** The roles of a process. It holds all of them, or none. */
export class Roles {
  readonly #fences: FencingTokens;
  readonly #roles = new Map<string, Role>();
  /**
   * Whether roles are to be acquired. The state of the process does not say it: an upgrade releases the roles before its
   * commit, in the state `upgrading`, and acquires them again if it fails.
   */
  #shouldHold = false;

  constructor(fences: FencingTokens) {
    this.#fences = fences;
  }

  /**
   * Adds a role, and acquires it if this process holds its roles.
   *
   * @throws {HandoverError} `ERR_OPTION`, `ERR_ROLE`
   */
  async add(name: string, definition: RoleDefinition): Promise<void> {
    requireProgramName("the name of a role", name);
    if (this.#roles.has(name)) throw new HandoverError("ERR_OPTION", `there is a role "${name}" already`);
    const role = new Role(name, readRole(name, definition));
    this.#roles.set(name, role);
    const error = this.#shouldHold ? await role.acquire(this.#fences.next()) : undefined;
    if (error === undefined) return;
    void this.#remove(name, role);
    throw error;
  }

  /** Releases a role that is acquired after its timeout, which no caller expects; its name is in use until then. */
  async #remove(name: string, role: Role): Promise<void> {
    if (role.isBusy) await role.release();
    this.#roles.delete(name);
  }

  /**
   * Acquires the roles in the order in which they were added.
   *
   * @throws {HandoverError} `ERR_ROLE`
   */
  async acquire(): Promise<void> {
    for await (const error of this.#acquireEach()) throw error;
  }

  /** Acquires every role that it can. Returns the errors of the others. */
  async acquireAll(): Promise<HandoverError[]> {
    const errors: HandoverError[] = [];
    for await (const error of this.#acquireEach()) errors.push(error);
    return errors;
  }

  /**
   * Releases the roles, the one that was added last first.
   *
   * @throws {HandoverError} `ERR_ROLE`: the roles that were released can be acquired again
   */
  async release(): Promise<void> {
    for await (const error of this.#releaseEach()) throw error;
  }

  /** Releases every role that it can. Returns the errors of the others. */
  async releaseAll(): Promise<HandoverError[]> {
    const errors: HandoverError[] = [];
    for await (const error of this.#releaseEach()) errors.push(error);
    return errors;
  }

  /** Ends early if the roles are released meanwhile. */
  async *#acquireEach(): AsyncGenerator<HandoverError> {
    this.#shouldHold = true;
    for (const role of this.#roles.values()) {
      const error = this.#shouldHold ? await role.acquire(this.#fences.next()) : undefined;
      if (error !== undefined) yield error;
    }
  }

  async *#releaseEach(): AsyncGenerator<HandoverError> {
    this.#shouldHold = false;
    for (const role of [...this.#roles.values()].toReversed()) {
      const error = await role.release();
      if (error !== undefined) yield error;
    }
  }
}

class Role {
  readonly #name: string;
  readonly #definition: Required<RoleDefinition>;
  #isHeld = false;
  #isBusy = false;
  /** The last call of the program's functions, which may still run after its timeout. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(name: string, definition: Required<RoleDefinition>) {
    this.#name = name;
    this.#definition = definition;
  }

  /** Whether a function of the program still runs, perhaps after its timeout. */
  get isBusy(): boolean {
    return this.#isBusy;
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
      new HandoverError("ERR_ROLE", `cannot ${verb} the role "${this.#name}": ${reason}`, { cause });
    try {
      const result = await withTimeout(timeout, done);
      return result === TIMED_OUT ? fail(`it took more than ${timeout} ms`) : undefined;
    } catch (error) {
      return fail(reasonOf(error), error);
    }
  }
}

function readRole(name: string, definition: RoleDefinition): Required<RoleDefinition> {
  refuseUnknown(`role("${name}")`, definition, ["acquire", "release", "timeout"]);
  const { timeout = 5_000 } = definition;
  return {
    ...functionsOf(definition, ["acquire", "release"], []),
    timeout: milliseconds("timeout", timeout, 1),
  };
}
