import { HandoverError } from "../errors.js";
import type { Peer } from "../exchange/parcel.js";
import type { OtherSeat, SeatRow } from "../hosts/engine.js";
import { withoutInternals } from "../hosts/host-outbox.js";
import { EngineClock } from "./engine-clock.js";
import { Gateway, type GatewaySettings } from "./gateway.js";
import { Keys, padded } from "./keys.js";
import { isBelow, nested, put, type Entry, type Operation } from "./txn.js";

/** What the parts of the engine have in common: the keys of the service, the gateway, and what this process has seen there. */
export class Store {
  readonly keys: Keys;
  readonly clock = new EngineClock();
  /** The other seats that live, as of the last beat. */
  others: readonly OtherSeat[] = [];
  readonly #settings: GatewaySettings;
  readonly #timeout: number;
  #gateway: Gateway | undefined;
  #highest = 0;
  readonly #known = new Map<string, Peer>();

  /** @param timeout for one answer, in ms */
  constructor(service: string, settings: GatewaySettings, timeout: number) {
    this.keys = new Keys(service);
    this.#settings = settings;
    this.#timeout = timeout;
  }

  open(): Gateway {
    return (this.#gateway ??= new Gateway(this.#settings, this.#timeout, this.clock));
  }

  close(): void {
    this.#gateway?.close();
    this.#gateway = undefined;
  }

  get gateway(): Gateway {
    if (this.#gateway !== undefined) return this.#gateway;
    throw new HandoverError("ERR_EXCHANGE", "etcd cannot be asked: it is not open");
  }

  /** Later fences of {@link nextFence} are above it. */
  seen(fence: number): void {
    this.#highest = Math.max(this.#highest, fence);
  }

  /** The highest fence of these, and of those that this process has seen: a host that died with a unit may have run it with that. */
  highest(...fences: readonly number[]): number {
    return Math.max(this.#highest, ...fences);
  }

  /** A fence above all that this process has seen. The clock only keeps those of a lost store from coming back. */
  nextFence(): number {
    return Math.max(this.#highest + 1, Date.now() * 1024);
  }

  /** A fence above all that a seat has given whose lease has ended: it may have given some since its last beat. */
  fenceAfterDeath(fence: number): number {
    return this.highest(fence) + SKIP;
  }

  /** Keeps that fences up to this one have been given. */
  raise(fence: number): Operation {
    const { keys } = this;
    return nested([isBelow(keys.fence, padded(fence))], [put(keys.fence, padded(fence))]);
  }

  /** The value of the key of a seat. */
  seatValue({ holder, fence: _, started: __, ...row }: SeatRow): string {
    return `${holder} ${JSON.stringify(row)}`;
  }

  readSeat({ value, created }: Entry): OtherSeat {
    const [, holder, row] = /^(\S+) ([^]*)$/.exec(value.toString())!;
    const seat = { ...(JSON.parse(row!) as SeatRow), holder: holder!, started: created };
    if (this.#known.size > MOST_KNOWN) this.#known.clear();
    this.#known.set(seat.seat, withoutInternals(seat));
    return seat;
  }

  /** The other seats that take a topic. */
  takersOf(topic: string): string[] {
    return this.others.filter((one) => !one.draining && one.topics.includes(topic)).map((one) => one.seat);
  }

  /** A process that offers, as far as it is known. */
  peerOf(seat: string): Peer {
    return this.#known.get(seat) ?? { generation: 0, pid: 0, seat };
  }
}

/** More than a process gives away between two beats. */
const SKIP = 2 ** 24;

/** Seats. */
const MOST_KNOWN = 1_000;

/** Operations of one question: etcd takes 128, those of a nested one included. */
export const BATCH = 100;
