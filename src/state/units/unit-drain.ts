import { setImmediate as turn } from "node:timers/promises";
import { TIMED_OUT, withTimeout } from "../../util/timeout.js";
import type { DrainContext } from "../../exchange/drain-context.js";
import type { Offered } from "../../exchange/exchange.js";
import { UNIT_KIND, type Unit } from "./unit.js";
import { makeRefusal, type Parcel, type Refusal, type Settlement } from "../../exchange/parcel.js";
import type { DrainSettings, UnitKind } from "./definition.js";
import type { DrainReport } from "../../events.js";
import { byPriority, UnitQueue } from "./unit-queue.js";

/**
 * The end of the units of one kind in this process: those that somebody would take move, a few at a time; the others are
 * stopped when it is certain that this process will not serve again.
 */
export class UnitDrain {
  /** Resolves when none is left here; also when it was undone. */
  readonly done: Promise<DrainReport>;
  readonly #kind: UnitKind;
  readonly #drains: DrainSettings;
  readonly #context: DrainContext;
  readonly #units: ReadonlyMap<string, Unit>;
  /** Those that somebody waits for. */
  readonly #wanted: ReadonlySet<string>;
  readonly #report: DrainReport = { moved: 0, failed: 0, stopped: 0, ms: 0, peers: 0, failures: {} };
  readonly #queue = new UnitQueue();
  /** Those that were taken, by what tells whether that is for good. */
  readonly #taken = new Map<Promise<boolean>, Unit[]>();
  readonly #exhausted = new Set<Unit>();
  /** On their way, when only the time to stop the rest was left. */
  readonly #unconfirmed = new Map<Unit, Offered>();
  /** Resolves when only that time is left, or this process serves again. */
  #almostOver: Promise<typeof TIMED_OUT> | undefined;
  #batch: { parcel: Parcel; offered: (offered: Offered) => void }[] = [];
  #failed = 0;
  /** Of `performance.now()`: when moving ends. */
  #end = 0;

  /** Begins after `another` one, which does not know what was started since. Those that are `wanted` go first. */
  constructor(
    kind: UnitKind,
    drains: DrainSettings,
    units: ReadonlyMap<string, Unit>,
    wanted: ReadonlySet<string>,
    context: DrainContext,
    another?: Promise<unknown>,
  ) {
    this.#kind = kind;
    this.#drains = drains;
    this.#units = units;
    this.#wanted = wanted;
    this.#context = context;
    this.done = this.#run(another);
  }

  /** Somebody waits for this one: it moves before those for which nobody does. */
  expedite(unit: Unit): void {
    this.#queue.expedite(unit);
  }

  async #run(another: Promise<unknown> | undefined): Promise<DrainReport> {
    const start = performance.now();
    if (another !== undefined) await Promise.race([another, this.#context.over]);
    const { timeout, unitTimeout } = this.#drains;
    const { remaining } = this.#context;
    const untilStopping = Math.max(remaining - STOP_PERIODS * unitTimeout, remaining / 2);
    this.#end = performance.now() + Math.min(timeout, untilStopping);
    this.#almostOver = withTimeout(untilStopping, this.#context.over).then(() => TIMED_OUT);
    this.#report.peers = this.#context.exchange?.peers(UNIT_KIND, this.#kind.name).length ?? 0;
    await this.#fillQueue();
    do {
      await Promise.all(Array.from({ length: this.#drains.concurrency }, async () => this.#moveSome()));
    } while (await this.#takeBack());
    if (!this.#context.isRolledBack) {
      const isHere = (unit: Unit): boolean => unit.phase !== "moved" && !this.#unconfirmed.has(unit);
      const rest = [...this.#units.values()].filter(isHere);
      const taken = [...this.#taken].map(async (one) => this.#confirm(...one));
      const late = [...this.#unconfirmed].map(async (one) => this.#awaitLateResult(...one));
      await Promise.all([this.#stopAll(rest), ...taken, ...late]);
    }
    return { ...this.#report, ms: Math.round(performance.now() - start) };
  }

  async #fillQueue(): Promise<void> {
    if (!this.#drains.enabled || this.#report.peers === 0) return;
    await this.#allStarted();
    const all = [...this.#units.values()];
    for (const unit of all) if (unit.attempts >= ATTEMPTS) this.#exhausted.add(unit);
    const free = all.filter((unit) => !this.#exhausted.has(unit));
    for (const unit of byPriority(free, this.#kind, (code) => this.#count(code))) this.#queue.add(unit);
    for (const id of this.#wanted) {
      const unit = this.#units.get(id);
      if (unit !== undefined) this.#queue.expedite(unit);
    }
  }

  /** Nothing can be asked of a unit before. */
  async #allStarted(): Promise<void> {
    const starting = [...this.#units.values()].filter(({ isStarted }) => !isStarted);
    if (starting.length === 0) return;
    await withTimeout(this.#drains.unitTimeout, Promise.allSettled(starting.map(({ started }) => started)));
  }

  async #moveSome(): Promise<void> {
    let unit;
    while (this.#mayMove() && (unit = this.#queue.next()) !== undefined) {
      // It may have been released.
      if (this.#units.get(unit.id) === unit) await this.#move(unit);
    }
  }

  #mayMove(): boolean {
    // A timer may be early by a part of a millisecond.
    const isOver = performance.now() >= this.#end || this.#unconfirmed.size > 0;
    if (isOver || this.#context.isRolledBack || this.#failed >= this.#drains.giveUpAfter) return false;
    return this.#context.hasTaker(UNIT_KIND, this.#kind.name);
  }

  async #move(unit: Unit): Promise<void> {
    const end = performance.now() + this.#drains.unitTimeout;
    const why = (await unit.freeze(this.#drains.unitTimeout)) ?? unit.encode();
    if (this.#context.isRolledBack || this.#units.get(unit.id) !== unit) return;
    if (why !== undefined) return this.#fail(why);
    const offered = await this.#offer(unit.parcel!);
    let isLate = false;
    const withdraw = (): void => {
      isLate = true;
      offered.withdraw();
    };
    const timer = setTimeout(withdraw, Math.max(0, end - performance.now()));
    const settlement = await Promise.race([offered.settled, this.#almostOver!]);
    clearTimeout(timer);
    if (settlement === TIMED_OUT) return void this.#unconfirmed.set(unit, offered);
    this.#settle(unit, settlement, isLate);
    // It may be offered again when there are descriptors again, which takes a turn.
    if (settlement.how === "withdrawn") await turn();
    return undefined;
  }

  /** Those of one turn go together. */
  #offer(parcel: Parcel): Promise<Offered> {
    if (this.#batch.length === 0) {
      queueMicrotask(() => {
        const batch = this.#batch;
        this.#batch = [];
        const offered = this.#context.exchange!.offer(batch.map((one) => one.parcel));
        batch.forEach((one, n) => one.offered(offered[n]!));
      });
    }
    return new Promise((resolve) => this.#batch.push({ parcel, offered: resolve }));
  }

  #settle(unit: Unit, settlement: Settlement, isLate: boolean): void {
    if (settlement.how === "taken") {
      if (this.#context.isRolledBack) return;
      this.#failed = 0;
      unit.phase = "moved";
      const taken = this.#taken.get(settlement.confirmed) ?? [];
      taken.push(unit);
      this.#taken.set(settlement.confirmed, taken);
    } else if (settlement.how === "refused") this.#fail(settlement);
    else if (settlement.died) this.#requeueAfterPeerDeath(unit);
    else if (isLate) this.#fail(makeRefusal("ERR_TIMEOUT"));
    else this.#queue.add(unit);
  }

  /** Whoever was to take it is dead. */
  #requeueAfterPeerDeath(unit: Unit): void {
    if (++unit.attempts < ATTEMPTS) return this.#queue.add(unit);
    const what = `unit ${this.#kind.name} "${unit.id}" (${unit.parcel?.body.length ?? 0} bytes)`;
    process.emitWarning(`${what} is not handed on any more: ${ATTEMPTS} processes have died with it`, {
      code: "HANDOVER_STATE_FAILED",
    });
    this.#exhausted.add(unit);
    return undefined;
  }

  #fail({ code }: Refusal): void {
    this.#failed++;
    this.#count(code);
  }

  #count(code: string): void {
    const { failures } = this.#report;
    failures[code] = (failures[code] ?? 0) + 1;
  }

  /**
   * Waits until it is certain what has left, or only the time to stop the rest is left. Whether some came back, and may
   * move again.
   */
  async #takeBack(): Promise<boolean> {
    const certain = Promise.all([this.#context.confirmed, ...this.#taken.keys()]);
    await Promise.race([certain, this.#almostOver]);
    if (this.#context.isRolledBack) return false;
    let back = false;
    for (const [confirmed, units] of this.#taken) {
      const isConfirmed = await Promise.race([confirmed, this.#almostOver]);
      if (isConfirmed === true) this.#report.moved += units.length;
      else if (isConfirmed === false) for (const unit of units) this.#giveBack(unit);
      else continue;
      this.#taken.delete(confirmed);
      back ||= !isConfirmed;
    }
    return back;
  }

  #giveBack(unit: Unit): void {
    unit.phase = "frozen";
    this.#requeueAfterPeerDeath(unit);
  }

  /** Those of which it is not certain have moved, unless they come back in time to be stopped. */
  async #confirm(confirmed: Promise<boolean>, units: readonly Unit[]): Promise<void> {
    const isLost = (await Promise.race([confirmed, this.#context.over])) === false;
    // It may be that this process serves again in a moment.
    if (isLost) await this.#context.rollbackImpossible();
    if (this.#context.isRolledBack) return;
    if (!isLost) this.#report.moved += units.length;
    else {
      for (const unit of units) this.#giveBack(unit);
      await this.#stopAll(units);
    }
  }

  /** Until the successor says what it has done with it, it may run there, and is not stopped here. */
  async #awaitLateResult(unit: Unit, offered: Offered): Promise<void> {
    offered.withdraw();
    const settlement = await Promise.race([offered.settled, this.#context.over]);
    if (settlement?.how === "withdrawn" && settlement.died) await this.#context.rollbackImpossible();
    if (this.#context.isRolledBack) return;
    if (settlement?.how !== "taken") this.#count("ERR_TIMEOUT");
    if (settlement !== undefined && settlement.how !== "taken") return this.#stopAll([unit]);
    // If the successor dies on a probation that is longer than the drain it runs here again.
    unit.phase = "moved";
    if (settlement === undefined) this.#report.failed++;
    else await this.#confirm(settlement.confirmed, [unit]);
  }

  async #stopAll(units: readonly Unit[]): Promise<void> {
    let left = units.length;
    const stopping = units.map(async (unit) => {
      const isStopped = await unit.stop(this.#drains.unitTimeout, (code) => this.#count(code));
      left--;
      if (isStopped && !this.#exhausted.has(unit)) this.#report.stopped++;
      else this.#report.failed++;
    });
    await Promise.race([Promise.all(stopping), this.#context.over]);
    this.#report.failed += left;
  }
}

/** What is kept of the time of the drain for the rest, to freeze and to stop, in unitTimeouts; at most half of it. */
const STOP_PERIODS = 2;

/** Processes that may die over the same unit. */
const ATTEMPTS = 3;
