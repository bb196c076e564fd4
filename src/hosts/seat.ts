import { randomUUID } from "node:crypto";
import { HandoverError, reasonOf } from "../errors.js";
import type { SeatHost } from "../exchange/hosts.js";
import { deferred } from "../util/deferred.js";
import { bootTime } from "./boot-time.js";
import { askTwice, intervalOf, ownLeaseOf } from "./renewal.js";
import type { OtherSeat, RoleEngine, SeatRow } from "./role-engine.js";

/** A seat as one process gives it to the next. Both are on one host: {@link validUntil} is on its clock. */
export interface SeatTicket {
  readonly seat: string;
  readonly holder: string;
  readonly started: number;
  readonly validUntil: number;
  readonly roles: Record<string, number>;
}

/**
 * The identity and the lease of the service on this host. Its holder beats for it; a process that has given it to its
 * successor renews the lease as well, as long as it has state of its own.
 *
 * The lease is over for this process earlier than for the others, so that all that it runs has ended before another process
 * may run it.
 */
export class Seat {
  readonly #engine: RoleEngine;
  readonly #host: SeatHost;
  readonly #topics: () => readonly string[];
  #id: string = randomUUID();
  #holder: string = randomUUID();
  /** The holder from which this process takes over, "" for any, until a beat has told the engine. */
  #former: string | undefined;
  #started = 0;
  #state: "none" | "held" | "guest" | "lost" | "left" = "none";
  /** Until when this process may run what is held by the lease, on the clock of {@link bootTime}. */
  #validUntil = 0;
  #isDraining = false;
  /** Whether something was told of the other seats while this process was added to them. */
  #isStale = false;
  #others: readonly OtherSeat[] = [];
  #held = deferred<void>();
  #beatTimer: NodeJS.Timeout | undefined;
  #lossTimer: NodeJS.Timeout | undefined;
  #beating: Promise<void> | undefined;
  /** The last question that adds {@link #id}, as long as none has been answered. It never rejects. */
  #entering: Promise<void> | undefined;
  readonly #onLost: (() => void)[] = [];
  readonly #onBeat: (() => void)[] = [];

  /** @param topics what this process takes */
  constructor(engine: RoleEngine, host: SeatHost, topics: () => readonly string[]) {
    this.#engine = engine;
    this.#host = host;
    this.#topics = topics;
  }

  get id(): string {
    return this.#id;
  }

  get state(): "none" | "held" | "lost" {
    if (this.#state === "held" || this.#state === "guest") return "held";
    return this.#state === "lost" ? "lost" : "none";
  }

  /** Whether this process takes what others offer. */
  get isTaking(): boolean {
    return this.#state === "held" && !this.#isDraining && this.isHeld;
  }

  /** Whether the successor has the seat. */
  get isGuest(): boolean {
    return this.#state === "guest";
  }

  /** Looks at the clock: a process that was stopped or suspended learns here that its lease has ended. */
  get isHeld(): boolean {
    if (this.#state !== "held" && this.#state !== "guest") return false;
    if (bootTime() < this.#validUntil) return true;
    this.#lose("it was not renewed in time");
    return false;
  }

  get remaining(): number {
    return this.state === "held" ? Math.max(0, Math.round(this.#validUntil - bootTime())) : 0;
  }

  /** Whether the engine was asked for a seat, and has not answered. */
  get isEntering(): boolean {
    return this.#entering !== undefined;
  }

  /** The other seats that live. */
  get others(): readonly OtherSeat[] {
    return this.#others;
  }

  get release(): string | undefined {
    return this.#host.release;
  }

  get started(): number {
    return this.#started;
  }

  onLost(run: () => void): void {
    this.#onLost.push(run);
  }

  /** Calls `run` after each beat. */
  onBeat(run: () => void): void {
    this.#onBeat.push(run);
  }

  /** Resolves when this process has a seat. */
  async whenHeld(): Promise<void> {
    while (!this.isHeld) {
      if (this.#state === "left")
        throw new HandoverError("ERR_STOPPED", "cannot ask the hosts: this process has left");
      await this.#held.promise;
    }
  }

  /**
   * Requires that this process still holds the seat `id`.
   *
   * @throws {HandoverError} `ERR_LEASE`
   */
  assertHeld(id: string, doing: string): void {
    if (!this.isHeld || this.#id !== id)
      throw new HandoverError("ERR_LEASE", `cannot ${doing}: the lease of this process has ended`);
  }

  /** Adds a seat of this process to those of the service. Tries until that succeeds, or this process leaves. */
  enter(): void {
    if (this.#state !== "none" && this.#state !== "lost") return;
    this.#beatTimer = undefined;
    this.#isStale = false;
    const sent = bootTime();
    const row = this.#row;
    this.#entering = this.#engine.enter(row).then(
      ({ started, others }) => {
        if (this.#state !== "none" && this.#state !== "lost") return;
        this.#entering = undefined;
        this.#started = started;
        this.#hold("held", sent + ownLeaseOf(this.#engine.lease));
        this.#received(others);
        // What this process takes may have changed meanwhile: the others would learn of it only with the next beat.
        const { topics, draining } = this.#row;
        const isSame = draining === row.draining && topics.join("\0") === row.topics.join("\0");
        this.#beatLater(isSame && !this.#isStale ? this.#untilNext(sent) : 0);
      },
      () => {
        if (this.#state === "none" || this.#state === "lost") this.#later(() => this.enter(), RETRY);
      },
    );
  }

  /** Takes the seat over from a predecessor. False if this process has another one, or the lease has ended on the way. */
  take(ticket: SeatTicket): boolean {
    if (this.#state !== "none" || bootTime() >= ticket.validUntil) return false;
    this.#id = ticket.seat;
    this.#started = ticket.started;
    this.#former = ticket.holder;
    this.#hold("held", ticket.validUntil);
    void this.#beat();
    return true;
  }

  /** For the successor. Undefined if this process has no seat. */
  ticket(roles: Record<string, number>): SeatTicket | undefined {
    if (this.#state !== "held" || !this.isHeld) return undefined;
    return {
      seat: this.#id,
      holder: this.#holder,
      started: this.#started,
      validUntil: this.#validUntil,
      roles,
    };
  }

  /** This process takes nothing any longer. The engine learns of it with the next beat, or with the seat. */
  stopTaking(): void {
    this.#isDraining = true;
  }

  /** The successor has it: this process only renews the lease. */
  give(): void {
    if (this.#state === "held") this.#state = "guest";
  }

  /** The successor is dead. It may have beaten as the holder. */
  takeBack(): void {
    this.#isDraining = false;
    // A process that leaves does not enter again by itself.
    if (this.#state === "lost") return this.#later(() => this.enter(), 0);
    if (this.#state === "guest") {
      this.#state = "held";
      this.#holder = randomUUID();
      this.#former = "";
    }
    // Others must know which fences a rollback has skipped: the process may die before its next beat.
    if (this.#state === "held") void this.beatNow();
    return undefined;
  }

  /**
   * Says that this process stops. Resolves when the engine knows it, or after a rollback.
   *
   * @throws {HandoverError} `ERR_STOPPED` if this process leaves first
   */
  async announceDrain(): Promise<boolean> {
    this.stopTaking();
    // A process that is stopped as soon as it accepts may not have its seat yet.
    await this.whenHeld();
    while (this.#isDraining && this.#state === "held" && this.isHeld) {
      if (await this.beatNow()) return true;
      await new Promise((resolve) => setTimeout(resolve, RETRY));
    }
    return false;
  }

  /** Something has changed about the other seats: looks at them. */
  wake(): void {
    // What the engine tells may arrive before its answer to `enter`, and be newer than that.
    this.#isStale = true;
    if (this.state === "held") void this.beatNow();
  }

  /** Beats without waiting for its time. Resolves with whether that succeeded. */
  async beatNow(): Promise<boolean> {
    await this.#beating;
    const before = this.#validUntil;
    await this.#beat();
    return this.#validUntil > before;
  }

  /** @param isShared whether a process that has given the seat still has state of its own: the seat ends with its lease then */
  async leave(isShared: boolean): Promise<void> {
    const isHolder = this.#state === "held" && !isShared;
    const entering = this.#entering;
    this.#end("left");
    // It may have been added, though the answer is missing: the others would count on a process that is gone.
    await entering;
    if (isHolder || entering !== undefined) await this.#engine.leave(this.#id).catch(() => {});
  }

  /** @param sent when the last renewal was sent that was answered */
  #untilNext(sent: number): number {
    return Math.max(0, sent + intervalOf(this.#engine.lease) - bootTime());
  }

  get #row(): SeatRow {
    const { self, address, release, fences } = this.#host;
    return {
      ...self,
      ...(address === undefined ? {} : { address }),
      ...(release === undefined ? {} : { release }),
      seat: this.#id,
      holder: this.#holder,
      draining: this.#isDraining,
      topics: this.#isDraining ? [] : this.#topics(),
      fence: fences.last,
      started: this.#started,
    };
  }

  async #beat(): Promise<void> {
    const beating = this.#beatOnce();
    this.#beating = beating;
    await beating;
  }

  async #beatOnce(): Promise<void> {
    clearTimeout(this.#beatTimer);
    if (!this.isHeld) return;
    const id = this.#id;
    const holder = this.#holder;
    const isHolder = this.#state === "held";
    const renew = async (): Promise<readonly OtherSeat[] | undefined> => {
      this.assertHeld(id, "renew it");
      if (isHolder) return this.#engine.beat(this.#row, this.#former);
      // What its successor refuses may go to a host that has joined since.
      return this.#engine.renew(id);
    };
    try {
      const { sent, answer: others } = await askTwice(this.#engine.lease, renew, () =>
        this.#engine.reconnect(),
      );
      // After a rollback another beat tells of the new holder.
      if (this.#id !== id || this.#holder !== holder || !this.isHeld) return;
      // The successor may have taken the seat meanwhile.
      if (isHolder !== (this.#state === "held")) return this.#beatLater(0);
      if (others === undefined) return this.#lose("another process holds its seat, or it was ended");
      this.#former = undefined;
      this.#hold(this.#state as "held", sent + ownLeaseOf(this.#engine.lease));
      this.#received(others);
      this.#beatLater(this.#untilNext(sent));
    } catch {
      if (this.#id === id && this.isHeld) this.#later(() => void this.#beat(), RETRY);
    }
    return undefined;
  }

  #hold(state: "held" | "guest", until: number): void {
    this.#state = state;
    this.#validUntil = until;
    clearTimeout(this.#lossTimer);
    this.#lossTimer = setTimeout(() => void this.isHeld, Math.max(0, until - bootTime()) + CLOCK_STEP);
    this.#held.resolve();
  }

  #received(others: readonly OtherSeat[]): void {
    this.#others = others;
    for (const run of this.#onBeat) run();
  }

  #lose(why: string): void {
    // One that has given its seat drains: with another seat it would take what it cannot run.
    const mayEnter = this.#state === "held" && !this.#isDraining;
    this.#end("lost");
    this.#id = randomUUID();
    this.#holder = randomUUID();
    for (const run of this.#onLost) {
      try {
        run();
      } catch (error) {
        process.emitWarning(`a step at the end of the lease failed: ${reasonOf(error)}`, {
          code: "HANDOVER_STEP",
        });
      }
    }
    this.#host.onFailure(new HandoverError("ERR_LEASE", `the lease of this process has ended: ${why}`));
    if (mayEnter) this.#later(() => this.enter(), 0);
  }

  #end(state: "lost" | "left"): void {
    this.#state = state;
    this.#others = [];
    this.#former = undefined;
    clearTimeout(this.#beatTimer);
    clearTimeout(this.#lossTimer);
    const held = this.#held;
    this.#held = deferred();
    // Those that wait look at the state again.
    if (state === "left") held.resolve();
  }

  #beatLater(ms: number): void {
    this.#later(() => void this.#beat(), ms);
  }

  #later(run: () => void, ms: number): void {
    clearTimeout(this.#beatTimer);
    this.#beatTimer = setTimeout(run, ms);
  }
}

/** ms until the engine is asked again when it did not answer. */
const RETRY = 100;

/** ms: {@link bootTime} is exact to a hundredth of a second. A timer before that would find the lease held. */
const CLOCK_STEP = 10;
