import type { Exchange, DeliveryHandler, Offered, SubscriptionOptions } from "../exchange/exchange.js";
import type { HostsStatus, SeatHost, StateHosts } from "../exchange/hosts.js";
import { makeRefusal, type Parcel, type Peer } from "../exchange/parcel.js";
import { withTimeout } from "../util/timeout.js";
import type { Engine, OtherSeat, Wake } from "./engine.js";
import { EngineDirectory } from "./engine-directory.js";
import { HostInbox } from "./host-inbox.js";
import { HostOutbox, withoutInternals } from "./host-outbox.js";
import { topicOf } from "./names.js";
import { LAST_WORD, RoleHosts } from "./role-hosts.js";

/** The part of this process in a service on several hosts, over an engine that moves state. */
export class EngineHosts extends RoleHosts implements StateHosts, Exchange {
  readonly directory: EngineDirectory;
  readonly exchange: Exchange = this;
  override readonly state: StateHosts = this;
  readonly #engine: Engine;
  readonly #host: SeatHost;
  readonly #outbox: HostOutbox;
  readonly #inbox: HostInbox;
  /** Those of {@link peers}, who are asked for each unit that moves, as long as the others are the same. */
  #peers: { others: readonly OtherSeat[]; byTopic: Map<string, readonly Peer[]> } = {
    others: [],
    byTopic: new Map(),
  };
  #isSweeping = false;

  constructor(engine: Engine, host: SeatHost) {
    super(engine, host, () => this.#inbox.topics);
    this.#engine = engine;
    this.#host = host;
    const { seat } = this;
    this.directory = new EngineDirectory(engine, seat, host.fences);
    this.#outbox = new HostOutbox(engine, seat, (kind, label) => this.peers(kind, label), host.fences);
    this.#inbox = new HostInbox(engine, seat, () => this.#tellTopics());
    seat.onBeat(() => this.#sweep());
  }

  get window(): number {
    return this.#engine.window;
  }

  override async giveTo(exchange: Exchange): Promise<boolean> {
    await withTimeout(LONGEST_FINISH, this.#inbox.finish());
    return super.giveTo(exchange);
  }

  override rollBack(): void {
    super.rollBack();
    this.#inbox.resume();
  }

  override async announceDrain(): Promise<void> {
    const preparing = this.#engine.prepare?.(this.seat.id).catch(() => {});
    await Promise.all([super.announceDrain(), withTimeout(LONGEST_PREPARATION, preparing)]);
  }

  override async leave(hasPredecessor = false): Promise<void> {
    const parts = [this.directory, this.#outbox];
    if (this.seat.state === "held" && !this.isAway)
      await withTimeout(LAST_WORD, Promise.all(parts.map(async (part) => part.flush())));
    for (const part of [this.#outbox, this.#inbox, this.directory]) part.stop();
    await super.leave(hasPredecessor);
  }

  override status(): HostsStatus {
    return { ...super.status(), offered: this.#outbox.size, parked: this.#outbox.parked };
  }

  /** Of a kind and a label, both given. */
  peers(kind: string, label?: string): readonly Peer[] {
    if (this.isAway || !this.seat.isHeld) return [];
    const { others } = this.seat;
    if (this.#peers.others !== others) this.#peers = { others, byTopic: new Map() };
    const { byTopic } = this.#peers;
    const key = `${kind}\0${label}`;
    const known = byTopic.get(key);
    if (known !== undefined) return known;
    const topic = topicOf({ kind, label: label ?? "" });
    const peers = others
      .filter(({ draining, topics }) => !draining && topics.includes(topic))
      .map(withoutInternals);
    byTopic.set(key, peers);
    return peers;
  }

  offer(parcels: readonly Parcel[]): readonly Offered[] {
    if (this.isAway) return parcels.map(() => REFUSED);
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

  protected override wake(what: Wake): void {
    if (typeof what === "object") return this.#outbox.taken(what);
    if (what === "own") this.#outbox.wake();
    if (what === "own" || what === "offer") this.#inbox.wake();
    else super.wake(what);
  }

  #tellTopics(): void {
    if (this.seat.state === "held") void this.seat.beatNow();
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

const REFUSED: Offered = {
  settled: Promise.resolve({
    how: "refused",
    ...makeRefusal("ERR_EXCHANGE", "the engine of the hosts does not answer"),
  }),
  withdraw: () => {},
};

/** ms for what is being taken from other hosts, before the successor gets the seat. */
const LONGEST_FINISH = 2_000;

/** ms */
const LONGEST_PREPARATION = 1_000;

/** ms in which the engine has to say what is on offer. */
const FETCH_TIMEOUT = 5_000;
