import type { Exchange, DeliveryHandler, Offered, SubscriptionOptions } from "../exchange/exchange.js";
import type { EngineReport, Hosts, HostsStatus, SeatHost } from "../exchange/hosts.js";
import { makeRefusal, type Parcel, type Peer } from "../exchange/parcel.js";
import { TIMED_OUT, withTimeout } from "../util/timeout.js";
import type { Engine, Wake } from "./engine.js";
import { EngineDirectory } from "./engine-directory.js";
import { reportOn } from "./engine-report.js";
import { EngineRoles } from "./engine-roles.js";
import { HostInbox } from "./host-inbox.js";
import { HostOutbox, withoutInternals } from "./host-outbox.js";
import { topicOf } from "./names.js";
import { Seat, type SeatTicket } from "./seat.js";

/** The part of this process in a service on several hosts, over an engine. */
export class EngineHosts implements Hosts, Exchange {
  readonly directory: EngineDirectory;
  readonly roles: EngineRoles;
  readonly exchange: Exchange = this;
  readonly #engine: Engine;
  readonly #host: SeatHost;
  readonly #seat: Seat;
  readonly #outbox: HostOutbox;
  readonly #inbox: HostInbox;
  #opening: Promise<void> | undefined;
  #isGiven = false;
  #isLeft = false;
  /** Whether the engine did not answer when this process stopped: what is offered to it then would only wait. */
  #isAway = false;
  #isSweeping = false;

  constructor(engine: Engine, host: SeatHost) {
    this.#engine = engine;
    this.#host = host;
    const seat = new Seat(engine, host, () => this.#inbox.topics);
    this.#seat = seat;
    this.directory = new EngineDirectory(engine, seat, host.fences);
    this.roles = new EngineRoles(engine, seat, host.fences);
    this.#outbox = new HostOutbox(
      engine,
      seat,
      (kind, label) => this.peers(kind, label),
      () => host.fences.last,
    );
    this.#inbox = new HostInbox(engine, seat, () => this.#tellTopics());
    seat.onBeat(() => this.#sweep());
  }

  get window(): number {
    return this.#engine.window;
  }

  get isHeld(): boolean {
    return this.#seat.isHeld;
  }

  onLost(run: () => void): void {
    this.#seat.onLost(run);
  }

  async check(): Promise<void> {
    this.#opening ??= this.#engine.open(
      () => this.#seat.id,
      (what) => this.#wake(what),
    );
    await this.#opening.catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    });
  }

  enter(predecessors: Promise<unknown> | undefined): void {
    if (predecessors === undefined) this.#seat.enter();
    else void predecessors.then(() => this.#seat.enter());
  }

  subscribeTo(exchange: Exchange): void {
    exchange.subscribe(SEAT_KIND, undefined, (parcel) => {
      const ticket = JSON.parse(Buffer.from(parcel.body).toString()) as SeatTicket;
      if (!this.#seat.take(ticket)) return { code: "ERR_RUNNING" };
      this.roles.inherit(ticket.roles);
      return "taken";
    });
  }

  async giveTo(exchange: Exchange): Promise<boolean> {
    const ticket = this.#seat.ticket(this.roles.held);
    if (ticket === undefined || exchange.peers(SEAT_KIND).length === 0) return false;
    const body = Buffer.from(JSON.stringify(ticket));
    const parcel = { kind: SEAT_KIND, label: "", id: ticket.seat, version: 1, codec: "json", body, fds: [] };
    const [offered] = exchange.offer([parcel]);
    const settlement = await withTimeout(GIVE_TIMEOUT, offered!.settled);
    this.#isGiven = settlement !== TIMED_OUT && settlement.how === "taken";
    if (this.#isGiven) this.#seat.give();
    return this.#isGiven;
  }

  rollBack(): void {
    this.#isGiven = false;
    this.#seat.takeBack();
  }

  async announceDrain(): Promise<void> {
    if (this.#isGiven || this.#isLeft) return;
    // A process that is stopped as soon as it accepts may not have its seat yet.
    const announcing = this.#seat.whenHeld().then(async () => this.#seat.announceDrain());
    // What cannot move must be stopped before the lease ends.
    const timeout =
      this.#seat.state === "held" ? Math.min(ANNOUNCE_TIMEOUT, this.#seat.remaining / 2) : ANNOUNCE_TIMEOUT;
    this.#isAway =
      (await withTimeout(
        timeout,
        announcing.catch(() => false),
      )) !== true;
  }

  async leave(): Promise<void> {
    this.#isLeft = true;
    if (this.#seat.state === "held") await withTimeout(ANNOUNCE_TIMEOUT, this.directory.flush());
    await withTimeout(ANNOUNCE_TIMEOUT, this.#seat.leave());
    for (const part of [this.#outbox, this.#inbox, this.directory]) part.stop();
    await withTimeout(ANNOUNCE_TIMEOUT, this.#engine.close()).catch(() => {});
  }

  status(): HostsStatus {
    const { name, service } = this.#engine;
    const { id, state, remaining, others } = this.#seat;
    return {
      engine: name,
      service,
      seat: id,
      lease: state,
      remaining,
      peers: others.map((one) => ({ ...withoutInternals(one), draining: one.draining })),
      offered: this.#outbox.size,
      parked: this.#outbox.parked,
    };
  }

  async inspect(): Promise<EngineReport> {
    return reportOn(this.#engine, async () => this.check());
  }

  /** Of a kind and a label, both given. */
  peers(kind: string, label?: string): readonly Peer[] {
    if (this.#isAway || !this.#seat.isHeld) return [];
    const topic = topicOf({ kind, label: label ?? "" });
    return this.#seat.others
      .filter(({ draining, topics }) => !draining && topics.includes(topic))
      .map(withoutInternals);
  }

  offer(parcels: readonly Parcel[]): readonly Offered[] {
    if (this.#isAway) return parcels.map(() => REFUSED);
    return this.#outbox.offer(parcels);
  }

  /** Of a kind and a label, both given. */
  subscribe(
    kind: string,
    label: string | undefined,
    take: DeliveryHandler,
    options: SubscriptionOptions = {},
  ): () => void {
    const fences = this.#host.fences;
    const advance: DeliveryHandler = (parcel, delivery) => {
      // What this process gives later, to its successor or to another host, is above it.
      fences.advanceTo(delivery.fence);
      return take(parcel, delivery);
    };
    return this.#inbox.subscribe({ kind, label: label ?? "", take: advance, ...options });
  }

  /** Another host's state cannot be asked for. */
  onQuery(): void {}

  async peek(): Promise<undefined> {
    return undefined;
  }

  /** Whether something is being taken from another host now. */
  async expedite(kind: string, label: string): Promise<boolean> {
    return (
      (await withTimeout(
        FETCH_TIMEOUT,
        this.#inbox.fetch(kind, label).catch(() => false),
      )) === true
    );
  }

  #wake(what: Wake): void {
    if (what === "own") {
      this.#outbox.wake();
      this.#inbox.wake();
    } else if (what === "offer") this.#inbox.wake();
    else if (what === "role") this.roles.wake();
    else if (this.#seat.state === "held" && !this.#isGiven) void this.#seat.beatNow();
  }

  #tellTopics(): void {
    if (this.#seat.state === "held") void this.#seat.beatNow();
  }

  #sweep(): void {
    if (this.#isSweeping) return;
    this.#isSweeping = true;
    void this.#engine
      .sweep()
      .catch(() => {})
      .finally(() => {
        this.#isSweeping = false;
      });
  }
}

/** The kind of the parcel in which a process gives its seat to its successor. */
const SEAT_KIND = "seat";

const REFUSED: Offered = {
  settled: Promise.resolve({
    how: "refused",
    ...makeRefusal("ERR_EXCHANGE", "the engine of the hosts does not answer"),
  }),
  withdraw: () => {},
};

/** ms in which the engine has to say what is on offer. */
const FETCH_TIMEOUT = 5_000;

/** ms in which the successor has to take the seat. */
const GIVE_TIMEOUT = 2_000;

/** ms for a word to the engine that is not waited for any longer. */
const ANNOUNCE_TIMEOUT = 5_000;
