import type { HandoverError } from "../errors.js";
import type { Hosts } from "../exchange/hosts.js";
import type { Role } from "./role.js";

/** The roles that one process of all hosts has. Each is acquired when it is free. */
export class GlobalRoles {
  readonly #hosts: Hosts;
  readonly #roles = new Map<string, Role>();
  /** Roles for which an answer is awaited, or that have failed within {@link PAUSE}. */
  readonly #busy = new Set<string>();
  /** Whether this process may acquire them. */
  #isOpen = false;
  #isStopping = false;

  constructor(hosts: Hosts) {
    this.#hosts = hosts;
    hosts.roles.onChange(() => this.#acquireFree());
    hosts.onLost(() => this.#lose());
  }

  has(name: string): boolean {
    return this.#roles.has(name);
  }

  /** Adds a role, which is acquired as soon as it is free and this process may acquire roles. */
  add(role: Role): void {
    this.#roles.set(role.name, role);
    this.#acquireFree();
  }

  /** This process may acquire roles from now on, until {@link end}. */
  begin(): void {
    this.#isOpen = true;
    this.#isStopping = false;
    this.#acquireFree();
  }

  /** This process stops: what it releases is another host's. */
  stop(): void {
    this.#isStopping = true;
  }

  /**
   * Releases them, until {@link begin} is called. They stay the seat's, for the successor, unless this process stops. Yields the
   * errors.
   */
  async *end(): AsyncGenerator<HandoverError> {
    this.#isOpen = false;
    for (const role of [...this.#roles.values()].toReversed()) {
      if (this.#isOpen) return;
      const error = await role.release();
      if (error !== undefined) yield error;
      else if (this.#isStopping) await this.#hosts.roles.release(role.name);
    }
  }

  #acquireFree(): void {
    if (!this.#isOpen) return;
    for (const role of this.#roles.values())
      if (!role.isHeld && !this.#busy.has(role.name)) void this.#acquire(role);
  }

  async #acquire(role: Role): Promise<void> {
    const { name } = role;
    const { roles } = this.#hosts;
    this.#busy.add(name);
    let isGivenUp = false;
    try {
      const fence = await roles.acquire(name);
      if (fence === undefined) return;
      const error = this.#isOpen && roles.isHeld(name) ? await role.acquire(fence) : undefined;
      // The lease may have ended, or an upgrade may have begun meanwhile.
      if (error === undefined && this.#isOpen && roles.isHeld(name)) return;
      if (error !== undefined) warn(`${error.message}; it is given up, and tried again`);
      await role.release();
      // What is late still runs here: another host must not begin before it has ended.
      await role.idle;
      isGivenUp = true;
      if (role.isHeld || (error === undefined && !this.#isStopping)) return;
      await roles.release(name);
      // Another host tries first.
      if (error !== undefined) await new Promise<void>((resolve) => setTimeout(resolve, PAUSE).unref());
    } catch {
      // The engine is away. The next beat comes here again.
    } finally {
      this.#busy.delete(name);
    }
    // The next beat may be far.
    if (isGivenUp) this.#acquireFree();
  }

  #lose(): void {
    for (const role of this.#roles.values())
      void role.release().then((error) => {
        if (error !== undefined) warn(`${error.message}; another host may have it`);
      });
  }
}

function warn(message: string): void {
  process.emitWarning(message, { code: "HANDOVER_ROLE" });
}

/** ms until a role is tried again that could not be acquired here. */
const PAUSE = 2_000;
