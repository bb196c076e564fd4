import { HandoverError } from "../errors.js";
import type { FencingTokens } from "../exchange/fencing.js";
import type { Hosts } from "../exchange/hosts.js";
import { GlobalRoles } from "./global-roles.js";
import { readRole, Role, type RoleDefinition } from "./role.js";
import { requireProgramName } from "./schema.js";

/** The roles of a process. It holds all of them, or none; those of all hosts one by one. */
export class Roles {
  readonly #fences: FencingTokens;
  readonly #roles = new Map<string, Role>();
  /** Those of all hosts; undefined if there are no other hosts. */
  readonly #global: GlobalRoles | undefined;
  readonly #requireHosts: (doing: string) => void;
  /**
   * Whether roles are to be acquired. The state of the process does not say it: an upgrade releases the roles before its
   * commit, in the state `upgrading`, and acquires them again if it fails.
   */
  #shouldHold = false;

  /** @param requireHosts throws where no role can be one of all hosts */
  constructor(fences: FencingTokens, hosts?: Hosts, requireHosts: (doing: string) => void = () => {}) {
    this.#fences = fences;
    this.#requireHosts = requireHosts;
    if (hosts !== undefined) this.#global = new GlobalRoles(hosts);
  }

  /**
   * Adds a role, and acquires it if this process holds its roles. Rejects with `ERR_ROLE`.
   *
   * @throws {HandoverError} `ERR_OPTION`
   */
  add(name: string, definition: RoleDefinition): Promise<void> {
    requireProgramName("the name of a role", name);
    if (this.#roles.has(name) || this.#global?.has(name) === true)
      throw new HandoverError("ERR_OPTION", `there is a role "${name}" already`);
    const read = readRole(name, definition);
    if (read.scope === "global") {
      this.#requireHosts(`add the role "${name}"`);
      if (this.#global !== undefined) {
        this.#global.add(new Role(name, read));
        return Promise.resolve();
      }
    }
    const role = new Role(name, read);
    this.#roles.set(name, role);
    return this.#begin(name, role);
  }

  async #begin(name: string, role: Role): Promise<void> {
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

  /** This process stops, without a successor: what it releases is another host's at once. */
  stop(): void {
    this.#global?.stop();
  }

  /** Ends early if the roles are released meanwhile. */
  async *#acquireEach(): AsyncGenerator<HandoverError> {
    this.#shouldHold = true;
    // They may be another host's: they are not waited for.
    this.#global?.begin();
    for (const role of this.#roles.values()) {
      const error = this.#shouldHold ? await role.acquire(this.#fences.next()) : undefined;
      if (error !== undefined) yield error;
    }
  }

  /** Ends early if the roles are acquired meanwhile: a rollback may come as the drain begins. */
  async *#releaseEach(): AsyncGenerator<HandoverError> {
    this.#shouldHold = false;
    if (this.#global !== undefined) yield* this.#global.end();
    for (const role of [...this.#roles.values()].toReversed()) {
      const error = this.#shouldHold ? undefined : await role.release();
      if (error !== undefined) yield error;
    }
  }
}
