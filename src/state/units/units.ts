import { HandoverError, reasonOf } from "../../errors.js";
import { TIMED_OUT, withTimeout, isThenable } from "../../util/timeout.js";
import { DrainContext } from "../../exchange/drain-context.js";
import { decode, requireStateName } from "../schema.js";
import type { Delivery, Exchange, TakeResult } from "../../exchange/exchange.js";
import type { FencingTokens } from "../../exchange/fencing.js";
import { UNIT_KIND, Unit } from "./unit.js";
import { makeRefusal, type Parcel } from "../../exchange/parcel.js";
import { UnitDrain } from "./unit-drain.js";
import { readDrainSettings, type DrainOptions, type DrainSettings, type UnitKind } from "./definition.js";
import type { DrainReport } from "../../events.js";

/** The units of one kind that run in this process. */
export interface Units<State, Unit> {
  /**
   * The unit of this name: the one that runs here, else the one that arrives from a predecessor which has it, else a new
   * one with the state `initial`.
   *
   * @throws {HandoverError} `ERR_NOT_READY` in a successor that does not accept yet; `ERR_ALREADY_UPGRADED` and
   *   `ERR_STOPPED` in a process that ends; `ERR_UNIT` if a predecessor has it and does not part with it. And what
   *   `run` throws
   */
  start(id: string, initial: State): Promise<Unit>;
  /** It has ended by itself: its `signal` aborts, and there is nothing of it to move. False if it does not run here. */
  release(id: string): boolean;
  get(id: string): Unit | undefined;
  /** How many run here. */
  readonly size: number;
  /** Moves or stops them all. An upgrade and a stop do it; the first call decides the options. */
  drain(options?: DrainOptions): Promise<DrainReport>;
}

/** What units need of their process. */
export interface UnitHost {
  readonly fences: FencingTokens;
  /** What leads to the generations before, while they live. */
  readonly predecessors: () => readonly Exchange[];
  /** @throws {HandoverError} where no unit can be started yet, or any more */
  readonly assertMayRun: (doing: string) => void;
  /** The drain of the process, until a rollback. */
  readonly drainContext: DrainContext | undefined;
}

/** Runs the units of one kind. */
export class UnitRegistry implements Units<unknown, unknown> {
  readonly kind: UnitKind;
  readonly #host: UnitHost;
  readonly #units = new Map<string, Unit>();
  /** Those that a predecessor has, and somebody waits for. */
  readonly #awaited = new Map<string, Set<() => void>>();
  /** Those that the successor waits for. */
  readonly #wanted = new Set<string>();
  #drain: UnitDrain | undefined;
  /** A drain that the program has asked for while this process serves. */
  #alone: Promise<DrainReport> | undefined;

  constructor(kind: UnitKind, host: UnitHost) {
    this.kind = kind;
    this.#host = host;
  }

  get size(): number {
    let size = 0;
    for (const { phase } of this.#units.values()) if (phase === "running") size++;
    return size;
  }

  get(id: string): unknown {
    return this.#running(id)?.unit;
  }

  async start(id: string, initial: unknown): Promise<unknown> {
    requireStateName("the id of a unit", id);
    const what = `unit ${this.kind.name} "${id}"`;
    if (this.#running(id) === undefined) {
      this.#host.assertMayRun(`start ${what}`);
      if (await this.#isElsewhere(id)) await this.#arrival(id, what);
    }
    const running = this.#running(id);
    if (running !== undefined) return running.started;
    this.#host.assertMayRun(`start ${what}`);
    return this.#begin(id, initial, this.#host.fences.next()).started;
  }

  release(id: string): boolean {
    const unit = this.#running(id);
    if (unit === undefined) return false;
    this.#units.delete(id);
    unit.abort();
    return true;
  }

  async drain(options: DrainOptions = {}): Promise<DrainReport> {
    const drains = readDrainSettings(options, this.kind.drains);
    const context = this.#host.drainContext;
    if (context === undefined) return (this.#alone ??= this.#drainAlone(drains));
    this.#drain ??= new UnitDrain(this.kind, drains, this.#units, this.#wanted, context, this.#alone);
    const report = await this.#drain.done;
    if (!context.isRolledBack) this.#forget(({ phase }) => phase !== "moved");
    // The successor's probation may be longer than the drain.
    void context.confirmed.then(
      (isConfirmed) => isConfirmed && this.#forget(({ phase }) => phase === "moved"),
    );
    return report;
  }

  /** Nobody but the program has asked for it, and others may be started. */
  async #drainAlone(drains: DrainSettings): Promise<DrainReport> {
    const context = new DrainContext(undefined, Promise.resolve(true), ALONE);
    const { done } = new UnitDrain(this.kind, drains, this.#units, this.#wanted, context);
    const report = await done;
    context.end();
    this.#alone = undefined;
    this.#forget(({ isEnded }) => isEnded);
    return report;
  }

  /** This process serves again. */
  async rollBack(): Promise<void> {
    this.#drain = undefined;
    this.#wanted.clear();
    await Promise.all(
      [...this.#units.values()].map(async (unit) => {
        try {
          await unit.restart(this.#host.fences.next());
        } catch (error) {
          this.#units.delete(unit.id);
          const what = `unit ${this.kind.name} "${unit.id}"`;
          process.emitWarning(`${what} does not run again after a rollback: ${reasonOf(error)}`, {
            code: "HANDOVER_UNIT",
          });
        }
      }),
    );
  }

  /** Takes what a predecessor offers. */
  async take(parcel: Parcel, delivery: Delivery): Promise<TakeResult> {
    const { id } = parcel;
    const { accept } = this.kind.definition;
    const accepting = accept?.(id);
    const isWanted = isThenable(accepting) ? await accepting : accepting;
    if (isWanted === false) return makeRefusal("ERR_REFUSED");
    if (this.#units.has(id)) return makeRefusal("ERR_RUNNING");
    if (this.#host.drainContext !== undefined) return makeRefusal("ERR_STOPPED");
    const { signal } = delivery;
    if (signal.aborted) return makeRefusal("ERR_TIMEOUT");
    const unit = this.#begin(id, decode(this.kind.schema, parcel), delivery.fence);
    const end = (): void => this.#drop(unit);
    signal.addEventListener("abort", end, { once: true });
    await unit.started;
    if (!signal.aborted) for (const wake of this.#awaited.get(id) ?? []) wake();
    return "taken";
  }

  /** Somebody else would start it. Whether it is here; then it moves next. */
  expedite(id: string): boolean {
    const unit = this.#units.get(id);
    if (unit === undefined || unit.phase === "moved") return false;
    this.#wanted.add(id);
    this.#drain?.expedite(unit);
    return true;
  }

  #running(id: string): Unit | undefined {
    const unit = this.#units.get(id);
    return unit?.phase === "running" ? unit : undefined;
  }

  #begin(id: string, state: unknown, fence: number): Unit {
    const unit = new Unit(this.kind, id, state, fence);
    this.#units.set(id, unit);
    unit.started.catch(() => this.#drop(unit));
    return unit;
  }

  #drop(unit: Unit): void {
    if (this.#units.get(unit.id) === unit) this.#units.delete(unit.id);
    unit.abort();
  }

  #forget(isOver: (unit: Unit) => boolean): void {
    for (const unit of this.#units.values()) if (isOver(unit)) this.#units.delete(unit.id);
  }

  async #isElsewhere(id: string): Promise<boolean> {
    const older = this.#host.predecessors();
    if (older.length === 0) return false;
    const held = await Promise.all(
      older.map(async (exchange) => exchange.expedite(UNIT_KIND, this.kind.name, id)),
    );
    return held.includes(true);
  }

  /** Until it has arrived, or the predecessor has ended it. */
  async #arrival(id: string, what: string): Promise<void> {
    const { unitTimeout } = this.kind.drains;
    const waiting = this.#awaited.get(id) ?? new Set();
    this.#awaited.set(id, waiting);
    let wake!: () => void;
    const arrived = new Promise<void>((resolve) => waiting.add((wake = resolve)));
    const result = this.#running(id) === undefined ? await withTimeout(unitTimeout, arrived) : undefined;
    waiting.delete(wake);
    if (waiting.size === 0) this.#awaited.delete(id);
    if (result !== TIMED_OUT || !(await this.#isElsewhere(id))) return;
    throw new HandoverError(
      "ERR_UNIT",
      `cannot start ${what}: a predecessor has it, and does not part with it`,
    );
  }
}

/** ms for a drain that the program asks for while it serves. */
const ALONE = 30_000;
