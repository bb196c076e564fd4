import type { Exchange } from "../exchange/exchange.js";
import type { EngineReport, Hosts, HostsStatus, SeatHost, StateHosts } from "../exchange/hosts.js";
import { withTimeout } from "../util/timeout.js";
import { reportOn } from "./engine-report.js";
import { EngineRoles } from "./engine-roles.js";
import { withoutInternals } from "./host-outbox.js";
import type { RoleEngine, Wake } from "./role-engine.js";
import { Seat, type SeatTicket } from "./seat.js";

/** The part of this process in a service on several hosts, over an engine: its seat and its roles. */
export class RoleHosts implements Hosts {
  readonly roles: EngineRoles;
  readonly state: StateHosts | undefined = undefined;
  protected readonly seat: Seat;
  /** Whether the engine did not answer when this process stopped: what is offered to it then would only wait. */
  protected isAway = false;
  readonly #engine: RoleEngine;
  #opening: Promise<void> | undefined;
  /** Whether the successor has the seat, or may have it. */
  #isGiven = false;
  #isLeft = false;
  #hasEntered = false;
  /** The seat that a predecessor has given. */
  #inherited: string | undefined;

  /** @param topics what this process takes from others */
  constructor(engine: RoleEngine, host: SeatHost, topics: () => readonly string[] = () => []) {
    this.#engine = engine;
    this.seat = new Seat(engine, host, topics);
    this.roles = new EngineRoles(engine, this.seat, host.fences, () => this.isAway);
  }

  get engine(): string {
    return this.#engine.name;
  }

  get isHeld(): boolean {
    return this.seat.isHeld;
  }

  get isInherited(): boolean {
    return this.seat.isHeld && this.seat.id === this.#inherited;
  }

  onLost(run: () => void): void {
    this.seat.onLost(run);
  }

  async check(): Promise<void> {
    this.#opening ??= this.#engine.open(
      () => this.seat.id,
      (what) => this.wake(what),
    );
    await this.#opening.catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    });
  }

  enter(predecessors: Promise<unknown> | undefined): void {
    this.#hasEntered = true;
    if (predecessors === undefined) this.seat.enter();
    else void predecessors.then(() => this.seat.enter());
  }

  subscribeTo(exchange: Exchange): void {
    exchange.subscribe(SEAT_KIND, undefined, (parcel) => {
      const ticket = JSON.parse(Buffer.from(parcel.body).toString()) as SeatTicket;
      if (!this.seat.take(ticket)) return { code: "ERR_RUNNING" };
      this.#inherited = ticket.seat;
      this.roles.inherit(ticket.roles);
      return "taken";
    });
  }

  async giveTo(exchange: Exchange): Promise<boolean> {
    // It was replaced. With a seat that it gets later it would count as one that takes units, and refuse them.
    this.seat.stopTaking();
    if (exchange.peers(SEAT_KIND).length === 0) return false;
    // This process may have begun a moment ago: without its seat the successor would have none before this process is gone.
    if (this.seat.isEntering) await withTimeout(LAST_WORD, this.seat.whenHeld()).catch(() => {});
    const ticket = this.seat.ticket(this.roles.held);
    if (ticket === undefined || exchange.peers(SEAT_KIND).length === 0) return false;
    const body = Buffer.from(JSON.stringify(ticket));
    const parcel = { kind: SEAT_KIND, label: "", id: ticket.seat, version: 1, codec: "json", body, fds: [] };
    const [offered] = exchange.offer([parcel]);
    this.#isGiven = true;
    // One that is busy takes it late: until it answers this process must not use the seat in another way. It answers, or dies.
    const { how } = await offered!.settled;
    if (!this.#isGiven) return false;
    if (how === "taken" || how === "lost") {
      this.seat.give();
      return true;
    }
    if (how === "refused") this.#isGiven = false;
    else this.rollBack();
    return false;
  }

  rollBack(): void {
    // It may have beaten, and died before it said that it has the seat.
    if (this.#isGiven) this.seat.give();
    this.#isGiven = false;
    this.isAway = false;
    this.seat.takeBack();
  }

  async announceDrain(): Promise<void> {
    // One that is stopped before it accepts gets no seat.
    if (this.#isGiven || this.#isLeft || !this.#hasEntered) return;
    const announcing = this.seat.announceDrain();
    // What cannot move must be stopped before the lease ends.
    const timeout = this.seat.state === "held" ? Math.min(LAST_WORD, this.seat.remaining / 2) : LAST_WORD;
    this.isAway =
      (await withTimeout(
        timeout,
        announcing.catch(() => false),
      )) !== true;
  }

  async leave(hasPredecessor = false): Promise<void> {
    this.#isLeft = true;
    if (this.#isGiven) this.seat.give();
    const timeout = this.isAway ? LAST_TRY : LAST_WORD;
    await withTimeout(timeout, this.seat.leave(hasPredecessor && this.isInherited));
    await withTimeout(timeout, this.#engine.close()).catch(() => {});
  }

  status(): HostsStatus {
    const { name, service } = this.#engine;
    const { id, state, remaining, others } = this.seat;
    return {
      engine: name,
      service,
      seat: id,
      lease: state,
      remaining,
      peers: others.map((one) => ({ ...withoutInternals(one), draining: one.draining })),
      offered: 0,
      parked: 0,
    };
  }

  async inspect(): Promise<EngineReport> {
    return reportOn(this.#engine, async () => this.check());
  }

  /** Something may have changed in the engine. */
  protected wake(what: Wake): void {
    if (what === "role") this.roles.wake();
    // While the successor has not answered whether it takes the seat, this process must not beat for it.
    else if (what === "seat" && (!this.#isGiven || this.seat.isGuest)) this.seat.wake();
  }
}

/** The kind of the parcel in which a process gives its seat to its successor. */
const SEAT_KIND = "seat";

/** ms for a word to the engine that is not waited for any longer. */
export const LAST_WORD = 5_000;

/** ms for a word to an engine that has not answered before. */
const LAST_TRY = 500;
