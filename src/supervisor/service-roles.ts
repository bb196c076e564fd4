import type { HandoverError } from "../errors.js";
import type { Clock } from "../util/clock.js";
import { report } from "./report.js";
import { nextFence, roleHolder } from "./role-holder.js";
import { RoleRefusals } from "./role-refusals.js";
import type { WorkerProcess } from "./worker-process.js";

/** Who holds the roles, as another supervisor takes it over. */
export interface RolesState {
  holder: number | undefined;
  fence: number;
  ticketKeys: Record<string, string>;
}

/** The workers among which the roles are given. */
interface RolesHost {
  readonly clock: Clock;
  /** Whether the service stops: the roles stay where they are. */
  isStopping(): boolean;
  indexes(): readonly number[];
  /** The worker of an index that accepts, or was told to: it may have acquired the roles by then. */
  mayHold(index: number): WorkerProcess | undefined;
  isLeaving(index: number): boolean;
}

/** Which worker holds the roles of the service, and the fences and keys with which the workers begin to accept. */
export class ServiceRoles {
  readonly #host: RolesHost;
  /** The index of the worker that holds the roles. */
  #holder: number | undefined;
  readonly #refusals: RoleRefusals<WorkerProcess>;
  #fence = 0;
  /** The keys of TLS sessions, which all workers share: a client comes back to any of them. */
  #ticketKeys: Record<string, string> = {};

  constructor(host: RolesHost) {
    this.#host = host;
    this.#refusals = new RoleRefusals(host.clock, () => this.assign());
  }

  get holder(): number | undefined {
    return this.#holder;
  }

  /** For {@link restore}. */
  get state(): RolesState {
    return { holder: this.#holder, fence: this.#fence, ticketKeys: this.#ticketKeys };
  }

  restore({ holder, fence, ticketKeys }: RolesState): void {
    this.#holder = holder;
    this.#fence = fence;
    this.#ticketKeys = ticketKeys;
  }

  /**
   * Tells a worker to accept.
   *
   * @param roles whether it acquires the roles
   */
  commit(worker: WorkerProcess, roles: boolean): void {
    // The keys of the first worker are those of all.
    this.#ticketKeys = { ...worker.ticketKeys, ...this.#ticketKeys };
    if (roles) this.#holder = worker.index;
    worker.commit(this.#ticketKeys, this.#nextFence(), roles);
  }

  /** Tells an old worker to accept again. */
  resume(worker: WorkerProcess, reason: HandoverError, roles: boolean): void {
    worker.resume(reason, roles, this.#nextFence());
  }

  /** Later fences are above this one. */
  advanceFence(fence: number): void {
    this.#fence = Math.max(this.#fence, fence);
  }

  /** A worker could not acquire the roles, and holds none. */
  onRefused(worker: WorkerProcess, reason: string, fence: number): void {
    this.advanceFence(fence);
    report(`worker ${worker.index} (pid ${worker.pid}) does not hold the roles: ${reason}`);
    this.#refusals.add(worker);
    if (this.#holder === worker.index && this.#host.mayHold(worker.index) === worker)
      this.#holder = undefined;
  }

  /** One worker holds the roles, unless none serves or all have refused. */
  assign(): void {
    const host = this.#host;
    // A holder that leaves releases them first.
    if (host.isStopping() || (this.#holder !== undefined && host.isLeaving(this.#holder))) return;
    const able = host
      .indexes()
      .filter((index) => host.mayHold(index) !== undefined && !host.isLeaving(index));
    const ready = able.filter((index) => !this.#refusals.has(host.mayHold(index)!));
    if (able.length > 0 && ready.length === 0) this.#refusals.askAgain();
    const holder = roleHolder(this.#holder, ready);
    if (holder === this.#holder) return;
    this.#holder = holder;
    if (holder !== undefined) host.mayHold(holder)!.roles(true, this.#nextFence());
  }

  /** The service stops: no worker is asked again. */
  stop(): void {
    this.#refusals.cancel();
  }

  #nextFence(): number {
    this.#fence = nextFence([this.#fence], Date.now());
    return this.#fence;
  }
}
