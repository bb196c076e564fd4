import { HandoverError, reasonOf } from "../../errors.js";
import type { DrainReport } from "../../events.js";
import { DrainContext } from "../../exchange/drain-context.js";
import type { Delivery, Exchange, TakeResult } from "../../exchange/exchange.js";
import type { FencingTokens } from "../../exchange/fencing.js";
import { makeRefusal, type Parcel } from "../../exchange/parcel.js";
import { isThenable } from "../../util/timeout.js";
import { requireStateName } from "../schema.js";
import { decode } from "../encoding.js";
import { Arrivals } from "./arrivals.js";
import { UNIT_KIND, Unit } from "./live-unit.js";
import {
  readDrainSettings,
  type DrainOptions,
  type DrainSettings,
  type UnitKind,
} from "./unit-definition.js";
import { UnitDrain } from "./unit-drain.js";
import type { UnitPhase } from "./unit-phase.js";
import { UnitQueue } from "./unit-queue.js";

/** The units of one kind that run in this process. */
export interface Units<State, Unit> {
  /**
   * The unit of this name: the one that runs here, else the one that arrives from a predecessor, else a new one with the
   * state `initial`.
   *
   * @throws {HandoverError} `ERR_NOT_READY` in a successor that does not accept yet; `ERR_ALREADY_UPGRADED` and
   *   `ERR_STOPPED` in a process that drains; `ERR_UNIT` if a predecessor does not release the unit in time. And the
   *   exception of `run`
   */
  start(id: string, initial: State): Promise<Unit>;
  /** For a unit that has ended by itself: its `signal` aborts, and it does not move. False if it does not run here. */
  release(id: string): boolean;
  get(id: string): Unit | undefined;
  /** The number of units that run here. */
  readonly size: number;
  /** Moves or stops all units. An upgrade and a stop call it. The first call decides the options. */
  drain(options?: DrainOptions): Promise<DrainReport>;
}

/** The process that the units are part of. */
export interface UnitHost {
  readonly fences: FencingTokens;
  /** The exchanges to the predecessors that live. */
  readonly predecessors: () => readonly Exchange[];
  /** @throws {HandoverError} where no unit can be started yet, or any longer */
  readonly assertMayRun: (doing: string) => void;
  /** The drain of the process, until a rollback. */
  readonly drainContext: DrainContext | undefined;
}

/** The phases of units that still move or end. */
const LEFT: ReadonlySet<UnitPhase> = new Set(["running", "frozen", "offered"]);

/** Runs the units of one kind. */
export class UnitRegistry implements Units<unknown, unknown> {
  readonly #kind: UnitKind;
  readonly #host: UnitHost;
  readonly #units = new Map<string, Unit>();
  readonly #arrivals = new Arrivals();
  /** The order in which units move. The successor can ask for one before they do. */
  #queue = new UnitQueue();
  #drain: UnitDrain | undefined;
  /** A drain that the program has asked for while this process serves. */
  #ownDrain: Promise<DrainReport> | undefined;

  constructor(kind: UnitKind, host: UnitHost) {
    this.#kind = kind;
    this.#host = host;
  }

  get size(): number {
    let size = 0;
    for (const { phase } of this.#units.values()) if (phase === "running") size++;
    return size;
  }

  /** Whether no unit is left here but those that the successor has taken, which a rollback brings back. */
  get isDrained(): boolean {
    return [...this.#units.values()].every(({ phase }) => !LEFT.has(phase));
  }

  get(id: string): unknown {
    return this.#running(id)?.value;
  }

  async start(id: string, initial: unknown): Promise<unknown> {
    requireStateName("the id of a unit", id);
    const doing = `start ${this.#subject(id)}`;
    if (this.#running(id) === undefined) {
      this.#host.assertMayRun(doing);
      if (await this.#isElsewhere(id)) await this.#waitForArrival(id, doing);
    }
    const running = this.#running(id);
    if (running !== undefined) return running.started;
    this.#host.assertMayRun(doing);
    return this.#begin(id, initial, this.#host.fences.next()).started;
  }

  release(id: string): boolean {
    const unit = this.#running(id);
    if (unit === undefined) return false;
    this.#remove(unit);
    return true;
  }

  async drain(options: DrainOptions = {}): Promise<DrainReport> {
    const settings = readDrainSettings(options, this.#kind.drainSettings);
    const context = this.#host.drainContext;
    if (context === undefined) return (this.#ownDrain ??= this.#drainAlone(settings));
    this.#drain ??= this.#newDrain(settings, context, this.#ownDrain);
    const report = await this.#drain.done;
    if (context.isRolledBack) return report;
    this.#forget(({ phase }) => phase !== "taken");
    // The probation of the successor may be longer than the drain: a rollback brings these units back.
    void context.confirmed.then(
      (isConfirmed) => isConfirmed && this.#forget(({ phase }) => phase === "taken"),
    );
    return report;
  }

  /** Stops all units of a process that serves. Others may be started meanwhile. */
  async #drainAlone(settings: DrainSettings): Promise<DrainReport> {
    const context = new DrainContext(undefined, Promise.resolve(true), OWN_DRAIN_TIMEOUT);
    const report = await this.#newDrain(settings, context).done;
    context.end();
    this.#ownDrain = undefined;
    this.#forget(({ hasAborted }) => hasAborted);
    return report;
  }

  #newDrain(settings: DrainSettings, context: DrainContext, previous?: Promise<unknown>): UnitDrain {
    return new UnitDrain(this.#kind, settings, this.#units, this.#queue, context, previous);
  }

  /** Runs the units again that were frozen, with higher fences. */
  rollBack(): void {
    this.#drain = undefined;
    this.#queue = new UnitQueue();
    for (const unit of this.#units.values()) void this.#restart(unit);
  }

  async #restart(unit: Unit): Promise<void> {
    try {
      if (!(await unit.restart(this.#host.fences.next()))) this.#remove(unit);
    } catch (error) {
      this.#remove(unit);
      const what = `${this.#subject(unit.id)} does not run again after a rollback`;
      process.emitWarning(`${what}: ${reasonOf(error)}`, { code: "HANDOVER_UNIT" });
    }
  }

  /** Takes the units that a predecessor offers. */
  subscribeTo(exchange: Exchange): void {
    exchange.subscribe(UNIT_KIND, this.#kind.name, async (parcel, delivery) => this.#take(parcel, delivery));
  }

  async #take(parcel: Parcel, delivery: Delivery): Promise<TakeResult> {
    const { id } = parcel;
    const { accept } = this.#kind.definition;
    const accepting = accept?.(id);
    const isAccepted = isThenable(accepting) ? await accepting : accepting;
    if (isAccepted === false) return makeRefusal("ERR_REFUSED");
    if (this.#units.has(id)) return makeRefusal("ERR_RUNNING");
    if (this.#host.drainContext !== undefined) return makeRefusal("ERR_STOPPED");
    const { signal } = delivery;
    if (signal.aborted) return makeRefusal("ERR_TIMEOUT");
    const unit = this.#begin(id, decode(this.#kind.schema, parcel), delivery.fence);
    signal.addEventListener("abort", () => this.#remove(unit), { once: true });
    await unit.started;
    if (!signal.aborted) this.#arrivals.arrived(id);
    return "taken";
  }

  /** Returns whether this process has the unit, which the successor waits for; the unit moves next then. */
  expedite(id: string): boolean {
    const unit = this.#units.get(id);
    if (unit === undefined || unit.phase === "taken" || unit.phase === "moved") return false;
    this.#queue.expedite(unit);
    return true;
  }

  #running(id: string): Unit | undefined {
    const unit = this.#units.get(id);
    return unit?.phase === "running" ? unit : undefined;
  }

  #begin(id: string, state: unknown, fence: number): Unit {
    const unit = new Unit(this.#kind, id, state, fence);
    this.#units.set(id, unit);
    unit.started.catch(() => this.#remove(unit));
    return unit;
  }

  #remove(unit: Unit): void {
    if (this.#units.get(unit.id) === unit) this.#units.delete(unit.id);
    unit.end();
  }

  #forget(isOver: (unit: Unit) => boolean): void {
    for (const unit of this.#units.values()) if (isOver(unit)) this.#units.delete(unit.id);
  }

  #subject(id: string): string {
    return `unit ${this.#kind.name} "${id}"`;
  }

  async #isElsewhere(id: string): Promise<boolean> {
    const predecessors = this.#host.predecessors();
    if (predecessors.length === 0) return false;
    const held = await Promise.all(
      predecessors.map(async (exchange) => exchange.expedite(UNIT_KIND, this.#kind.name, id)),
    );
    return held.includes(true);
  }

  /** Waits until the unit has arrived, or the predecessor has stopped it. */
  async #waitForArrival(id: string, doing: string): Promise<void> {
    if (this.#running(id) !== undefined) return;
    if (await this.#arrivals.wait(id, this.#kind.drainSettings.unitTimeout)) return;
    if (!(await this.#isElsewhere(id))) return;
    throw new HandoverError(
      "ERR_UNIT",
      `cannot ${doing}: a predecessor has it, and did not release it in time`,
    );
  }
}

/** The time, in ms, for a drain that the program asks for while this process serves. */
const OWN_DRAIN_TIMEOUT = 30_000;
