import { codeOf, reasonOf, toHandoverError, type ErrorCode, type RefusalCode } from "../../errors.js";
import type { Ownership } from "../../exchange/directory.js";
import type { DrainContext } from "../../exchange/drain-context.js";
import type { Offered } from "../../exchange/exchange.js";
import { makeRefusal, type Parcel, type Peer, type Refusal, type Settlement } from "../../exchange/parcel.js";
import type { Route } from "../../exchange/route.js";
import { TIMED_OUT, withTimeout, isThenable } from "../../util/timeout.js";
import { MAX_ATTEMPTS, warnStateFailed } from "../failed-state.js";
import { decodeOwn, encode } from "../encoding.js";
import type { UnitKind } from "./unit-definition.js";
import { nextPhase, type UnitEvent, type UnitPhase } from "./unit-phase.js";
import { UnitRun } from "./unit-run.js";

/** The kind of the parcels that carry units. */
export const UNIT_KIND = "unit";

/** The terms under which the units of one drain move. */
export interface MoveTerms {
  readonly context: DrainContext;
  readonly route: Route;
  /** The time, in ms, for one unit to freeze and be taken. */
  readonly timeout: number;
  /** Resolves when only the time to stop the other units is left, or the drain is over. */
  readonly stopTime: Promise<undefined>;
}

/**
 * The result of an attempt to move a unit: the successor has taken it; it came back and can be offered again; its
 * settlement is lost, and it may run in the successor; it was refused; or, undefined, the successor has not answered yet or
 * nothing is to be done.
 */
type MoveResult = "taken" | "returned" | "lost" | Refusal | undefined;

/** The phases of units that this process does not have. */
const OVER: ReadonlySet<UnitPhase> = new Set(["moved", "ended", "failed"]);

/** One unit in this process. */
export class Unit {
  readonly id: string;
  readonly #kind: UnitKind;
  #phase: UnitPhase = "running";
  #run: UnitRun;
  /** The state as it was frozen: as `freeze` returned it, or encoded. */
  #frozen: { readonly state: unknown } | { readonly parcel: Parcel } | undefined;
  /** Why the unit could not be frozen. The program is asked once. */
  #freezing: Promise<Refusal | undefined> | undefined;
  /** The `run` or `freeze` of the program that is at work: one begins when the other has ended. */
  #pending: Promise<void> | undefined;
  #offer: Offered | undefined;
  /** Whether it is an offer to other hosts. They have what they have taken at once, and do not die with the successor. */
  #isFar = false;
  #confirmed: Promise<boolean> | undefined;
  /** With which this process owns the unit. */
  #fence: number;
  #isOwned = true;
  /** Whether another process had it, with a fence that this one does not know. */
  #isBehind = false;
  readonly #onLeft: (unit: Ownership) => void;
  readonly #ownAgain: ((unit: Unit) => Promise<void>) | undefined;
  /** How many processes have died with the unit. */
  #deaths = 0;

  /**
   * Runs at once.
   *
   * @param onLeft is called when this process has ended the unit, or another one has it for certain
   * @param ownAgain asks for another fence, above those of all that have had the unit
   */
  constructor(
    kind: UnitKind,
    id: string,
    state: unknown,
    fence: number,
    onLeft: (unit: Ownership) => void,
    ownAgain?: (unit: Unit) => Promise<void>,
  ) {
    this.#kind = kind;
    this.id = id;
    this.#fence = fence;
    this.#onLeft = onLeft;
    this.#ownAgain = ownAgain;
    this.#run = this.#begin(state, fence);
  }

  get phase(): UnitPhase {
    return this.#phase;
  }

  /** Resolves with the result of `run`. */
  get started(): Promise<unknown> {
    return this.#run.started;
  }

  /** Whether `run` has returned. */
  get isStarted(): boolean {
    return this.#run.isStarted;
  }

  /** The result of `run`; undefined before. */
  get value(): unknown {
    return this.#run.value;
  }

  /** Whether the signal of the unit has aborted. */
  get hasAborted(): boolean {
    return this.#run.hasAborted;
  }

  /** Whether so many processes have died with the unit that it is not offered again. */
  get isExhausted(): boolean {
    return this.#deaths >= MAX_ATTEMPTS;
  }

  /** Of a unit that the successor has taken: resolves at the end of its probation, with false if it has died. */
  get confirmed(): Promise<boolean> | undefined {
    return this.#confirmed;
  }

  /** Whether another process has it, or may have it: it has not ended here. */
  get hasLeft(): boolean {
    return this.#phase === "taken" || this.#phase === "moved";
  }

  /** Moves the unit to the successor, or to another host: freezes it, offers it, and waits for the settlement. */
  async move({ context, route, timeout, stopTime }: MoveTerms): Promise<MoveResult> {
    const end = performance.now() + timeout;
    const refusal = (await this.#freezeOnce(timeout)) ?? this.#encode();
    // It may have been released, or run again after a rollback.
    if (context.isRolledBack || this.#phase === "ended") return undefined;
    if (refusal !== undefined) return refusal;
    this.#apply("offered");
    const offer = await route.offer(this.#parcel!);
    this.#offer = offer;
    this.#isFar = route.isGlobal;
    let isLate = false;
    const withdraw = (): void => {
      isLate = true;
      offer.withdraw();
    };
    // A whole number: see the drain of connections.
    const timer = setTimeout(withdraw, Math.max(0, Math.ceil(end - performance.now())));
    const settlement = await Promise.race([offer.settled, stopTime]);
    clearTimeout(timer);
    this.#raiseFence(settlement);
    if (route.isGlobal && settlement?.how === "taken") this.#closeSockets(settlement.by);
    return settlement && this.#settle(settlement, isLate, context.isRolledBack);
  }

  /**
   * Asks for a unit back whose offer is not settled when only the time to stop it is left. Until the successor answers
   * it may run there, and must not be stopped here. Resolves with undefined after a rollback.
   */
  async recall(context: DrainContext): Promise<"taken" | "returned" | "lost" | "unanswered" | undefined> {
    const offer = this.#offer!;
    offer.withdraw();
    const settlement = (await Promise.race([offer.settled, context.over])) ?? undefined;
    this.#raiseFence(settlement);
    if (settlement?.how === "withdrawn" && settlement.died) await context.rollbackImpossible();
    if (context.isRolledBack) return undefined;
    if (settlement?.how === "taken") this.#confirmed = settlement.confirmed;
    const how = settlement?.how ?? "unanswered";
    const result = how === "refused" || how === "withdrawn" || how === "parked" ? "returned" : how;
    this.#apply(result === "lost" ? "unanswered" : result);
    return result;
  }

  /** The end of the successor's probation. After its death the unit is this process's again. */
  settleProbation(isConfirmed: boolean): void {
    this.#apply(isConfirmed ? "confirmed" : "returned");
    if (!isConfirmed) this.#countDeaths();
  }

  /** The unit runs on another host now. */
  #closeSockets(peer: Peer): void {
    const { moved } = this.#kind.definition;
    this.#run.closeSockets(() => shortReason(moved?.(this.id, peer) ?? peer.address ?? ""));
  }

  /** Stops a unit that the successor has not taken. Returns whether `stop` succeeded in time; counts the failures. */
  async stop(timeout: number, count: (code: string) => void): Promise<boolean> {
    const run = this.#run;
    const isStopped = await this.#callStop(timeout, count);
    run.abort();
    run.detachSockets();
    // After a rollback the unit may run again, and a late `stop` must not end that run.
    if (this.#run === run) this.#apply(isStopped ? "ended" : "failed");
    return isStopped;
  }

  /** Ends the unit without a `stop`: its signal aborts. */
  end(): void {
    this.#apply("ended");
    this.#run.abort();
    this.#run.detachSockets();
    this.leave();
  }

  /** The lease has ended: another host may run it in a moment. */
  lose(): void {
    this.#isOwned = false;
    this.#apply("ended");
    this.#run.abort();
    this.#run.detachSockets();
  }

  /** The unit is no longer this process's. */
  leave(): void {
    if (!this.#isOwned) return;
    this.#isOwned = false;
    this.#onLeft({ id: this.id, fence: this.#fence });
  }

  /**
   * After a rollback: the successor is dead, so that no answer of it is missing. Another host may still take the unit: resolves
   * when it has, or cannot any longer.
   */
  takeBack(): Promise<void> | undefined {
    const isOut = this.#phase === "offered" || this.#phase === "taken";
    if (!this.#isFar || !isOut) return this.#apply("returned");
    this.#offer!.withdraw();
    return this.#offer!.settled.then(({ how }) => {
      if (how === "taken") this.#leaveHost();
      else if (how !== "lost") this.#apply("returned");
    });
  }

  /** This process owns the unit again. */
  own(fence: number): void {
    this.#fence = fence;
    this.#isBehind = false;
    this.#isOwned = true;
  }

  /**
   * Runs the unit again after a rollback, unless it still runs. Resolves with false for a unit that has ended and left no
   * state.
   */
  async restart(fence: number): Promise<boolean> {
    this.own(fence);
    this.#freezing = undefined;
    if (this.#pending !== undefined) await this.#pending;
    if (this.#phase === "running") return true;
    if (this.#frozen === undefined || nextPhase(this.#phase, "restarted") !== "running") return false;
    const state = this.#state;
    this.#frozen = undefined;
    this.#apply("restarted");
    this.#run = this.#begin(state, fence);
    await this.started;
    return true;
  }

  /** Those that had it meanwhile may have written with higher fences than this process had. */
  #raiseFence(settlement: Settlement | undefined): void {
    if (settlement?.how !== "refused" && settlement?.how !== "withdrawn") return;
    this.#isBehind = settlement.fence === undefined;
    this.#fence = Math.max(this.#fence, settlement.fence ?? 0);
  }

  #apply(event: UnitEvent): undefined {
    this.#phase = nextPhase(this.#phase, event);
    if (OVER.has(this.#phase)) this.leave();
  }

  /** Another host has taken it: no rollback brings it back. */
  #leaveHost(): void {
    this.#apply("taken");
    this.#apply("confirmed");
  }

  get #subject(): string {
    return `unit ${this.#kind.name} "${this.id}"`;
  }

  get #parcel(): Parcel | undefined {
    return this.#frozen !== undefined && "parcel" in this.#frozen ? this.#frozen.parcel : undefined;
  }

  get #state(): unknown {
    if (this.#frozen === undefined) return undefined;
    return "parcel" in this.#frozen ? decodeOwn(this.#kind.schema, this.#frozen.parcel) : this.#frozen.state;
  }

  #begin(state: unknown, fence: number): UnitRun {
    const run = new UnitRun(this.#kind, this.id, state, fence);
    // A `run` that has returned already needs no promise: thousands of units start in one turn.
    if (!run.isStarted) this.#wait(run.started);
    return run;
  }

  #wait(work: Promise<unknown>): void {
    const over = work
      .catch(() => {})
      .then(() => {
        if (this.#pending === over) this.#pending = undefined;
      });
    this.#pending = over;
  }

  #freezeOnce(timeout: number): Promise<Refusal | undefined> {
    return (this.#freezing ??= this.#freezeWithin(timeout));
  }

  async #freezeWithin(timeout: number): Promise<Refusal | undefined> {
    try {
      const freezing =
        this.#pending === undefined ? this.#freeze() : this.#pending.then(() => this.#freeze());
      if (freezing instanceof Promise) this.#wait(freezing);
      if ((await withTimeout(timeout, freezing)) !== TIMED_OUT) return undefined;
      return makeRefusal("ERR_TIMEOUT", `freeze() took more than ${timeout} ms`);
    } catch (error) {
      return makeRefusal("ERR_FREEZE", reasonOf(error));
    }
  }

  /** Synchronous if the program's `freeze` is, so that thousands of units freeze in one turn. */
  #freeze(): void | Promise<void> {
    if (this.hasAborted) return undefined;
    const frozen = this.#kind.definition.freeze(this.id, this.value);
    if (!isThenable(frozen)) return this.#storeFrozen(frozen);
    return Promise.resolve(frozen).then((state) => this.#storeFrozen(state));
  }

  #storeFrozen(state: unknown): void {
    this.#frozen = { state };
    this.#apply("froze");
    this.#run.abort();
  }

  /** Replaces the frozen state by its encoded form. Returns why that failed. */
  #encode(): Refusal | undefined {
    if (this.#frozen === undefined || "parcel" in this.#frozen) return undefined;
    const { name, schema } = this.#kind;
    try {
      const body = encode(schema, this.#frozen.state, this.#subject);
      this.#frozen = { parcel: { kind: UNIT_KIND, label: name, id: this.id, fds: [], ...body } };
      return undefined;
    } catch (error) {
      const { code, message } = toHandoverError(error, "ERR_ENCODING", `encode ${this.#subject}`);
      return makeRefusal(code, message);
    }
  }

  #settle(settlement: Settlement, isLate: boolean, isRolledBack: boolean): MoveResult {
    const hasDied = settlement.how === "withdrawn" && settlement.died;
    if (hasDied) this.#countDeaths(settlement.deaths);
    // The unit runs here again, and may have been offered to another successor since.
    if (isRolledBack) return undefined;
    if (settlement.how === "taken") {
      if (this.#isFar) this.#leaveHost();
      else this.#apply("taken");
      this.#confirmed = settlement.confirmed;
      return "taken";
    }
    if (settlement.how === "lost") {
      this.#apply("unanswered");
      return "lost";
    }
    this.#apply("returned");
    if (settlement.how === "refused") return settlement;
    if (!isLate || hasDied) return "returned";
    const refusals = settlement.how === "withdrawn" ? settlement.refusals : [];
    return refusals.at(-1) ?? makeRefusal("ERR_TIMEOUT");
  }

  #countDeaths(deaths = 1): void {
    this.#deaths += deaths;
    if (this.isExhausted)
      warnStateFailed(this.#subject, this.#parcel?.body.length ?? 0, "processes have died with it");
  }

  async #callStop(timeout: number, count: (code: string) => void): Promise<boolean> {
    const { stop } = this.#kind.definition;
    try {
      if (stop === undefined) return true;
      const isCounted = this.#freezing !== undefined;
      const refusal = await this.#freezeOnce(timeout);
      if (refusal !== undefined && !isCounted) count(refusal.code);
      if (this.#isBehind) await withTimeout(timeout, this.#ownAgain?.(this));
      const stopping = stop(this.id, this.#state, { fence: this.#fence });
      const stopped = await withTimeout(timeout, Promise.resolve(stopping));
      if (stopped === TIMED_OUT) count("ERR_TIMEOUT" satisfies RefusalCode);
      return stopped !== TIMED_OUT;
    } catch (error) {
      count(codeOf(error, "ERR_STOP" satisfies ErrorCode | RefusalCode));
      return false;
    }
  }
}

/** A close frame takes 123 bytes of reason. */
function shortReason(reason: string): string {
  let short = reason.slice(0, LONGEST_REASON);
  while (Buffer.byteLength(short) > LONGEST_REASON) short = short.slice(0, -1);
  return short;
}

const LONGEST_REASON = 123;
