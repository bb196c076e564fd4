import { HandoverError, reasonOf } from "../errors.js";
import { TIMED_OUT, withTimeout } from "../util/timeout.js";
import { functionsOf, milliseconds, refuseUnknown } from "../util/validation.js";
import { readName } from "./schema.js";
import type { FencingTokens } from "../exchange/fencing.js";

/** Something that runs in exactly one generation: a cron, a queue's consumer, a file lock. */
export interface RoleDefinition {
  /**
   * Begins it. `fence` is above that of every holder before. To throw makes `ready()` reject.
   */
  acquire(context: { fence: number }): unknown;
  /** Ends it: when it returns, nothing of it runs here any more. To throw, or to be late, fails the upgrade. */
  release(): unknown;
  /** How long, in ms, each may take. Default 5 000. */
  timeout?: number;
}

/** The roles of a process, which it holds all or not at all. */
export class Roles {
  readonly #fences: FencingTokens;
  readonly #roles = new Map<string, Role>();
  #isHeld = false;

  constructor(fences: FencingTokens) {
    this.#fences = fences;
  }

  /** Resolves when it is held, if this process holds its roles, else at once. */
  async add(name: string, definition: RoleDefinition): Promise<void> {
    readName("the name of a role", name);
    if (this.#roles.has(name)) throw new HandoverError("ERR_OPTION", `there is a role "${name}" already`);
    const role = new Role(name, readRole(name, definition));
    this.#roles.set(name, role);
    try {
      if (this.#isHeld) await role.acquire(this.#fences.next());
    } catch (error) {
      void this.#remove(name, role);
      throw error;
    }
  }

  /** What is acquired too late is released, as nobody knows that it is held; until then its name is not free. */
  async #remove(name: string, role: Role): Promise<void> {
    if (role.isBusy) await role.release().catch(() => {});
    this.#roles.delete(name);
  }

  /**
   * Acquires them in the order in which they were added.
   *
   * @throws {HandoverError} `ERR_ROLE`
   */
  async acquire(): Promise<void> {
    this.#isHeld = true;
    for (const role of this.#roles.values()) {
      if (this.#isHeld) await role.acquire(this.#fences.next());
    }
  }

  /** Takes them back: acquires what can be acquired. Returns what could not. */
  async acquireAll(): Promise<HandoverError[]> {
    this.#isHeld = true;
    const errors: HandoverError[] = [];
    for (const role of this.#roles.values()) {
      if (this.#isHeld) {
        await role.acquire(this.#fences.next()).catch((error: HandoverError) => errors.push(error));
      }
    }
    return errors;
  }

  /**
   * Releases them, the last one first.
   *
   * @throws {HandoverError} `ERR_ROLE`: what was released before can be acquired again
   */
  async release(): Promise<void> {
    this.#isHeld = false;
    for (const role of [...this.#roles.values()].toReversed()) await role.release();
  }

  /** Releases what can be released. Returns what could not. */
  async releaseAll(): Promise<HandoverError[]> {
    this.#isHeld = false;
    const errors: HandoverError[] = [];
    for (const role of [...this.#roles.values()].toReversed()) {
      await role.release().catch((error: HandoverError) => errors.push(error));
    }
    return errors;
  }
}

class Role {
  readonly #name: string;
  readonly #definition: Required<RoleDefinition>;
  #isHeld = false;
  #isBusy = false;
  /** What the program is at, although it may be too late. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(name: string, definition: Required<RoleDefinition>) {
    this.#name = name;
    this.#definition = definition;
  }

  /** Whether the program is still at it, although it may be too late. */
  get isBusy(): boolean {
    return this.#isBusy;
  }

  async acquire(fence: number): Promise<void> {
    await this.#call("acquire", async () => {
      if (this.#isHeld) return;
      await this.#definition.acquire({ fence });
      this.#isHeld = true;
    });
  }

  /** One that throws is held as before. */
  async release(): Promise<void> {
    await this.#call("release", async () => {
      if (!this.#isHeld) return;
      await this.#definition.release();
      this.#isHeld = false;
    });
  }

  /** One after the other: what was late is waited for before the next. */
  async #call(verb: "acquire" | "release", run: () => Promise<void>): Promise<void> {
    const { timeout } = this.#definition;
    const done = this.#last.then(async () => {
      this.#isBusy = true;
      await run().finally(() => (this.#isBusy = false));
    });
    this.#last = done.catch(() => {});
    const why = await withTimeout(timeout, done).then(
      (result: unknown) => (result === TIMED_OUT ? `it took more than ${timeout} ms` : undefined),
      (error: unknown) => ({ error }),
    );
    if (why === undefined) return;
    const [reason, cause] = typeof why === "string" ? [why, undefined] : [reasonOf(why.error), why.error];
    throw new HandoverError("ERR_ROLE", `cannot ${verb} the role "${this.#name}": ${reason}`, { cause });
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
