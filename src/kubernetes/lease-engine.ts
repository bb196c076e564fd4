import { HandoverError } from "../errors.js";
import { bootTime } from "../hosts/boot-time.js";
import type { EngineInspection, RoleEngine, SeatRow, Wake } from "../hosts/role-engine.js";
import { describeMissing, LeaseApi, type LeasePlace } from "./lease-api.js";
import {
  fenceOf,
  holderOf,
  isFree,
  isHeldBy,
  isOfService,
  leaseName,
  newLease,
  released,
  withHolder,
  type Lease,
} from "./lease-object.js";

/** The options of `kubernetesLease()`, read. */
interface LeaseSettings extends LeasePlace {
  readonly lease: number;
}

interface Opened {
  readonly api: LeaseApi;
  readonly wake: (what: Wake) => void;
}

/**
 * Lease objects of Kubernetes, one for each role. A write is refused if the object has changed since it was read. A seat has no
 * object: it lives as long as its process renews the Leases that it holds.
 *
 * The object's times are written and never read: a Lease is over for this process when it has not changed for its duration, on
 * this host's own clock.
 */
export class LeaseEngine implements RoleEngine {
  readonly name = "kubernetes";
  readonly service: string;
  readonly lease: number;
  readonly #settings: LeaseSettings;
  #opened: Opened | undefined;
  /** The state in which each Lease was seen last, and since when, by name. */
  readonly #seen = new Map<string, { readonly version: string; readonly since: number }>();
  /** The Leases that this process knows to be its seat's, by name. */
  #mine = new Set<string>();
  /** This process, as the Leases name it. */
  #holder = "";

  constructor(settings: LeaseSettings) {
    this.#settings = settings;
    this.service = settings.service;
    this.lease = settings.lease;
  }

  async open(_: () => string, wake: (what: Wake) => void): Promise<void> {
    // A renewal is two questions, and has a third of the lease for more than one try.
    const api = new LeaseApi(this.#settings, Math.min(LONGEST_ANSWER, this.lease / 5));
    this.#opened = { api, wake };
    try {
      const missing = await api.missingRights();
      if (missing.length > 0) {
        const { what, fix } = describeMissing(missing);
        throw new HandoverError("ERR_EXCHANGE", `Kubernetes cannot be used: ${what}; ${fix}`);
      }
      await this.#list();
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#opened?.api.close();
    this.#opened = undefined;
  }

  reconnect(): void {
    this.#opened?.api.reconnect();
  }

  async inspect(): Promise<EngineInspection> {
    const server = await this.#api.version();
    const missing = await this.#api.missingRights();
    return { server, problems: missing.length === 0 ? [] : [describeMissing(missing)] };
  }

  /** The API server tells the time in seconds only. */
  async time(): Promise<undefined> {
    await this.#api.list();
  }

  async enter({ holder }: SeatRow): Promise<{ started: number; others: SeatRow[] }> {
    this.#holder = holder;
    this.#mine.clear();
    await this.#list();
    return { started: Date.now(), others: [] };
  }

  async beat({ seat, holder, fence }: SeatRow, former?: string): Promise<SeatRow[] | undefined> {
    this.#holder = holder;
    // What is acquired meanwhile may not be in the list.
    const known = [...this.#mine];
    const leases = (await this.#list()).filter((one) => isHeldBy(one, seat));
    const held = new Set(leases.map(({ metadata }) => metadata.name));
    // A Lease that was deleted, or that another process has taken after all.
    if (known.some((name) => this.#mine.has(name) && !held.has(name))) return undefined;
    const holders = [holder, ...(former === undefined ? [] : [former])];
    for (const lease of leases) {
      if (former !== "" && !holders.includes(holderOf(lease)!)) return undefined;
      this.#mine.add(lease.metadata.name);
      if (!(await this.#renew(lease, seat, fence))) return undefined;
    }
    return [];
  }

  /** The predecessor of a seat's holder holds no roles. */
  async renew(): Promise<SeatRow[]> {
    await this.#list();
    return [];
  }

  async leave(seat: string): Promise<void> {
    this.#mine.clear();
    for (const lease of await this.#list()) {
      if (isHeldBy(lease, seat)) await this.#release(lease.metadata.name, seat, fenceOf(lease) + SKIP);
    }
  }

  async acquire(seat: string, role: string): Promise<number | undefined> {
    const name = leaseName(this.service, role);
    const found = await this.#api.get(name);
    if (found === undefined ? !this.#isOverWithout(name) : !this.#mayTake(found, seat)) return undefined;
    const lease = found ?? newLease(this.service, role);
    // A holder that has died may have given more fences than it has told.
    const last = found === undefined || isFree(found) ? fenceOf(lease) : fenceOf(lease) + SKIP;
    const fence = Math.max(last + 1, Date.now() * 1_024);
    const held = withHolder(lease, { seat, holder: this.#holder, fence, lease: this.lease });
    const isWritten = await (found === undefined ? this.#api.create(held) : this.#api.replace(held));
    if (!isWritten) return undefined;
    this.#mine.add(name);
    return fence;
  }

  async release(seat: string, role: string, fence: number): Promise<void> {
    const name = leaseName(this.service, role);
    this.#mine.delete(name);
    await this.#release(name, seat, fence);
  }

  /** Until it is another one's: a renewal may come in between. */
  async #release(name: string, seat: string, fence: number): Promise<void> {
    for (;;) {
      const lease = await this.#api.get(name);
      if (lease === undefined || !isHeldBy(lease, seat)) return;
      if (await this.#api.replace(released(lease, fence))) return;
    }
  }

  /** False if it is another seat's. One that this process has released meanwhile needs no renewal. */
  async #renew(lease: Lease, seat: string, fence: number): Promise<boolean> {
    const { name } = lease.metadata;
    for (let current = lease; ;) {
      const renewed = withHolder(current, { seat, holder: this.#holder, fence, lease: this.lease });
      if (await this.#api.replace(renewed)) return true;
      const now = await this.#api.get(name);
      if (!this.#mine.has(name)) return true;
      if (now === undefined || !isHeldBy(now, seat)) return false;
      current = now;
    }
  }

  /** Reads all Leases of the service, and watches them from there. */
  async #list(): Promise<Lease[]> {
    const { api, wake } = this.#open;
    const { leases, version } = await api.list();
    for (const lease of leases) this.#isOver(lease);
    await api.watch(version, (lease) => {
      if (isFree(lease)) wake("role");
    });
    return leases;
  }

  #mayTake(lease: Lease, seat: string): boolean {
    const { name } = lease.metadata;
    if (!isOfService(lease, this.service))
      throw new HandoverError(
        "ERR_EXCHANGE",
        `Kubernetes cannot be used: the Lease ${name} is another program's`,
      );
    const isOver = this.#isOver(lease);
    return isOver || isFree(lease) || isHeldBy(lease, seat);
  }

  /** Whether its holder has not renewed it for as long as it lasts. */
  #isOver({ metadata, spec }: Lease): boolean {
    const { name, uid = "", resourceVersion = "" } = metadata;
    const duration = spec.leaseDurationSeconds ?? this.lease / 1_000;
    return this.#isUnchanged(name, `${uid} ${resourceVersion}`, duration * 1_000);
  }

  /** Whether one that was deleted is over: its holder learns that at its next renewal. */
  #isOverWithout(name: string): boolean {
    return !this.#seen.has(name) || this.#isUnchanged(name, "deleted", this.lease);
  }

  /** It counts from when this process has seen the last change. */
  #isUnchanged(name: string, version: string, duration: number): boolean {
    const now = bootTime();
    const seen = this.#seen.get(name);
    if (seen?.version === version) return now - seen.since > duration;
    this.#seen.set(name, { version, since: now });
    return false;
  }

  get #open(): Opened {
    if (this.#opened !== undefined) return this.#opened;
    throw new HandoverError("ERR_EXCHANGE", "Kubernetes cannot be asked: it is not open");
  }

  get #api(): LeaseApi {
    return this.#open.api;
  }
}

/** More than a process gives away between two beats. */
const SKIP = 2 ** 24;

/** ms */
const LONGEST_ANSWER = 5_000;
