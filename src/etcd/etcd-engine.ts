import { HandoverError, type UnitOwner } from "../errors.js";
import type { Ownership } from "../exchange/directory.js";
import type {
  Claimed,
  Draft,
  Engine,
  EngineInspection,
  FoundOffer,
  OfferKey,
  OfferState,
  Orphan,
  Refused,
  Returned,
  OtherSeat,
  SeatRow,
  StepResult,
  Wake,
  Wish,
} from "../hosts/engine.js";
import { Claims } from "./claims.js";
import type { GatewaySettings } from "./gateway.js";
import { ROUND } from "./lots.js";
import { Offers } from "./offers.js";
import { Roles } from "./roles.js";
import { Seats } from "./seats.js";
import { Store } from "./store.js";
import { Sweep } from "./sweep.js";
import { get, list } from "./txn.js";
import { UnitKeys } from "./unit-keys.js";
import { Watch } from "./watch.js";

/** The options of `etcd()`, read. */
export interface EtcdSettings extends GatewaySettings {
  readonly service: string;
  readonly lease: number;
  readonly maxBody: number;
}

/** etcd, from version 3.4, by its JSON gateway. */
export class EtcdEngine implements Engine {
  readonly name = "etcd";
  readonly service: string;
  readonly lease: number;
  readonly batch = ROUND;
  readonly round = ROUND;
  readonly window = 1_000;
  readonly questionBytes = QUESTION_BYTES;
  readonly maxBody: number;
  readonly wakes = true;
  readonly #store: Store;
  readonly #seats: Seats;
  readonly #units: UnitKeys;
  readonly #offers: Offers;
  readonly #claims: Claims;
  readonly #roles: Roles;
  readonly #sweep: Sweep;
  #watch: Watch | undefined;

  constructor(settings: EtcdSettings) {
    const { service, lease, maxBody } = settings;
    this.service = service;
    this.lease = lease;
    this.maxBody = maxBody;
    const store = new Store(service, settings, Math.min(LONGEST_ANSWER, lease / 3));
    this.#store = store;
    this.#seats = new Seats(store, lease);
    this.#units = new UnitKeys(store);
    this.#offers = new Offers(store);
    this.#claims = new Claims(store);
    this.#roles = new Roles(store);
    this.#sweep = new Sweep(store, lease);
  }

  async open(seat: () => string, wake: (what: Wake) => void): Promise<void> {
    const gateway = this.#store.open();
    try {
      const [problem] = (await this.inspect()).problems ?? [];
      if (problem !== undefined)
        throw new HandoverError("ERR_EXCHANGE", `etcd cannot be used: ${problem.why}`);
      // Whether the user may.
      await gateway.read([list(this.#store.keys.root, { limit: 1, keysOnly: true })]);
    } catch (error) {
      this.#store.close();
      throw error;
    }
    this.#watch = new Watch(gateway, this.#store.keys, wake);
    this.#watch.follow(seat());
  }

  async close(): Promise<void> {
    this.#watch?.stop();
    this.#store.close();
  }

  reconnect(): void {
    this.#store.gateway.reconnect();
  }

  async inspect(): Promise<EngineInspection> {
    const version = await this.#store.gateway.version();
    const [major, minor] = version.split(".").map(Number) as [number, number];
    const server = `etcd ${version}`;
    if (major > 3 || (major === 3 && minor >= 4)) return { server };
    const why = `it has version ${version}, and 3.4 is needed`;
    return { server, problems: [{ check: "engine", what: "the version of etcd", why, fix: "upgrade etcd" }] };
  }

  async time(): Promise<number> {
    await this.#store.gateway.read([get(this.#store.keys.fence)]);
    return this.#store.clock.earliest;
  }

  async enter(seat: SeatRow): Promise<{ started: number; others: OtherSeat[] }> {
    this.#watch?.follow(seat.seat);
    const entered = await this.#seats.enter(seat);
    // Of what was told meanwhile this process could make nothing without a seat.
    setImmediate(() => this.#watch?.wakeAll());
    return entered;
  }

  async beat(seat: SeatRow, former?: string): Promise<OtherSeat[] | undefined> {
    this.#watch?.follow(seat.seat);
    const others = await this.#seats.beat(seat, former);
    if (others !== undefined) this.#watch?.expectEcho();
    return others;
  }

  async renew(seat: string): Promise<OtherSeat[] | undefined> {
    return this.#seats.renew(seat);
  }

  async leave(seat: string): Promise<void> {
    await this.#seats.leave(seat);
  }

  async sweep(): Promise<void> {
    await this.#sweep.run();
  }

  async own(
    seat: string,
    kind: string,
    ids: readonly string[],
    from?: string,
  ): Promise<(number | UnitOwner)[]> {
    return this.#units.own(seat, kind, ids, from);
  }

  async disown(seat: string, kind: string, units: readonly Ownership[]): Promise<void> {
    await this.#units.disown(seat, kind, units);
  }

  async where(kind: string, id: string): Promise<UnitOwner | undefined> {
    return this.#units.where(kind, id);
  }

  async findOrphans(_: string, kind: string, limit: number): Promise<Orphan[]> {
    return this.#units.findOrphans(kind, limit);
  }

  async takeOrphans(seat: string, kind: string, orphans: readonly Orphan[]): Promise<Ownership[]> {
    return this.#units.takeOrphans(seat, kind, orphans);
  }

  async offer(seat: string, drafts: readonly Draft[]): Promise<(number | undefined)[]> {
    return this.#offers.offer(seat, drafts);
  }

  async findOffers(seat: string, drafts: readonly Draft[]): Promise<FoundOffer[]> {
    return this.#offers.findOffers(seat, drafts);
  }

  async look(seat: string, offers: readonly OfferKey[]): Promise<OfferState[]> {
    return this.#offers.look(seat, offers);
  }

  async withdraw(seat: string, numbers: readonly number[]): Promise<Returned[]> {
    const { back, claimants } = await this.#offers.withdraw(seat, numbers);
    const alive = new Set(this.#store.others.map((other) => other.seat));
    // What a dead process has claimed is free when that was seen.
    if (claimants.some((claimant) => !alive.has(claimant))) await this.#sweep.run();
    return back;
  }

  async step(seat: string, settle: readonly number[], wish: Wish): Promise<StepResult> {
    return this.#claims.step(seat, settle, wish);
  }

  async claims(seat: string): Promise<Claimed[]> {
    return this.#claims.claims(seat);
  }

  async refuse(seat: string, refused: readonly Refused[]): Promise<void> {
    await this.#claims.refuse(seat, refused);
  }

  async acquire(seat: string, role: string): Promise<number | undefined> {
    return this.#roles.acquire(seat, role);
  }

  async release(seat: string, role: string, fence: number): Promise<void> {
    await this.#roles.release(seat, role, fence);
  }
}

/** Bytes: etcd takes 1.5 MiB in one request, with all keys. */
const QUESTION_BYTES = 1024 * 1024;

/** ms */
const LONGEST_ANSWER = 5_000;
