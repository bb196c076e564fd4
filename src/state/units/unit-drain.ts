import { setImmediate as turn } from "node:timers/promises";
import { LATE, within } from "../../util/timeout.js";
import type { Departure } from "../drain-context.js";
import type { Offered } from "../../exchange/exchange.js";
import { KIND, type LiveUnit } from "./unit.js";
import type { Parcel, Refusal, Settlement } from "../../exchange/parcel.js";
import type { DrainReport, Drains, Kind } from "./definition.js";
import { inOrder, UnitQueue } from "./unit-queue.js";

/**
 * The end of the units of one kind in this process: those that somebody would take move, a few at a time; the others are
 * stopped when it is certain that this process will not serve again.
 */
export class UnitDrain {
  /** Resolves when none is left here; also when it was undone. */
  readonly done: Promise<DrainReport>;
  readonly #kind: Kind;
  readonly #drains: Drains;
  readonly #departure: Departure;
  readonly #units: ReadonlyMap<string, LiveUnit>;
  /** Those that somebody waits for. */
  readonly #wanted: ReadonlySet<string>;
  readonly #report: DrainReport = { moved: 0, parked: 0, stopped: 0, ms: 0, peers: 0, failures: {} };
  readonly #queue = new UnitQueue();
  /** Those that were taken, by what tells whether that is for good. */
  readonly #taken = new Map<Promise<boolean>, LiveUnit[]>();
  readonly #parked = new Set<LiveUnit>();
  /** On their way, when only the time to stop the rest was left. */
  readonly #unanswered = new Map<LiveUnit, Offered>();
  /** Resolves when only that time is left, or this process serves again. */
  #almostOver: Promise<typeof LATE> | undefined;
  #batch: { parcel: Parcel; offered: (offered: Offered) => void }[] = [];
  #failed = 0;
  /** Of `performance.now()`: when moving ends. */
  #end = 0;

  /** Begins after `another` one, which does not know what was started since. Those that are `wanted` go first. */
  constructor(
    kind: Kind,
    drains: Drains,
    units: ReadonlyMap<string, LiveUnit>,
    wanted: ReadonlySet<string>,
    departure: Departure,
    another?: Promise<unknown>,
  ) {
    this.#kind = kind;
    this.#drains = drains;
    this.#units = units;
    this.#wanted = wanted;
    this.#departure = departure;
    this.done = this.#run(another);
  }

  /** Somebody waits for this one: it moves before those for which nobody does. */
  hurry(unit: LiveUnit): void {
    this.#queue.hurry(unit);
  }

  async #run(another: Promise<unknown> | undefined): Promise<DrainReport> {
    const start = performance.now();
    if (another !== undefined) await Promise.race([another, this.#departure.over]);
    const { timeout, unitTimeout } = this.#drains;
    const { remaining } = this.#departure;
    const untilStopping = Math.max(remaining - STOPPING * unitTimeout, remaining / 2);
    this.#end = performance.now() + Math.min(timeout, untilStopping);
    this.#almostOver = within(untilStopping, this.#departure.over).then(() => LATE);
    this.#report.peers = this.#departure.exchange?.peers(KIND, this.#kind.name).length ?? 0;
    await this.#fillQueue();
    do {
      await Promise.all(Array.from({ length: this.#drains.concurrency }, async () => this.#moveSome()));
    } while (await this.#takeBack());
    if (!this.#departure.isUndone) {
      const isHere = (unit: LiveUnit): boolean => unit.phase !== "moved" && !this.#unanswered.has(unit);
      const rest = [...this.#units.values()].filter(isHere);
      const taken = [...this.#taken].map(async (one) => this.#confirm(...one));
      const late = [...this.#unanswered].map(async (one) => this.#hearLate(...one));
      await Promise.all([this.#stopAll(rest), ...taken, ...late]);
    }
    return { ...this.#report, ms: Math.round(performance.now() - start) };
  }

  async #fillQueue(): Promise<void> {
    if (!this.#drains.enabled || this.#report.peers === 0) return;
    await this.#allStarted();
    const all = [...this.#units.values()];
    for (const unit of all) if (unit.attempts >= ATTEMPTS) this.#parked.add(unit);
    const free = all.filter((unit) => !this.#parked.has(unit));
    for (const unit of inOrder(free, this.#kind, (code) => this.#count(code))) this.#queue.add(unit);
    for (const id of this.#wanted) {
      const unit = this.#units.get(id);
      if (unit !== undefined) this.#queue.hurry(unit);
    }
  }

  /** Nothing can be asked of a unit before. */
  async #allStarted(): Promise<void> {
    const starting = [...this.#units.values()].filter(({ isStarted }) => !isStarted);
    if (starting.length === 0) return;
    await within(this.#drains.unitTimeout, Promise.allSettled(starting.map(({ started }) => started)));
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
    const isOver = performance.now() >= this.#end || this.#unanswered.size > 0;
    if (isOver || this.#departure.isUndone || this.#failed >= this.#drains.giveUpAfter) return false;
    return this.#departure.hasTaker(KIND, this.#kind.name);
  }

  async #move(unit: LiveUnit): Promise<void> {
    const end = performance.now() + this.#drains.unitTimeout;
    const why = (await unit.freeze(this.#drains.unitTimeout)) ?? unit.pack();
    if (this.#departure.isUndone || this.#units.get(unit.id) !== unit) return;
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
    if (settlement === LATE) return void this.#unanswered.set(unit, offered);
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
        const offered = this.#departure.exchange!.offer(batch.map((one) => one.parcel));
        batch.forEach((one, n) => one.offered(offered[n]!));
      });
    }
    return new Promise((resolve) => this.#batch.push({ parcel, offered: resolve }));
  }

  #settle(unit: LiveUnit, settlement: Settlement, isLate: boolean): void {
    if (settlement.how === "taken") {
      if (this.#departure.isUndone) return;
      this.#failed = 0;
      unit.phase = "moved";
      const taken = this.#taken.get(settlement.kept) ?? [];
      taken.push(unit);
      this.#taken.set(settlement.kept, taken);
    } else if (settlement.how === "refused") this.#fail(settlement);
    else if (settlement.died) this.#survive(unit);
    else if (isLate) this.#fail({ code: "ERR_TIMEOUT" });
    else this.#queue.add(unit);
  }

  /** Whoever was to take it is dead. */
  #survive(unit: LiveUnit): void {
    if (++unit.attempts < ATTEMPTS) return this.#queue.add(unit);
    const what = `unit ${this.#kind.name} "${unit.id}" (${unit.parcel?.body.length ?? 0} bytes)`;
    process.emitWarning(`${what} is not handed on any more: ${ATTEMPTS} processes have died with it`, {
      code: "HANDOVER_PARKED",
    });
    this.#parked.add(unit);
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
    const certain = Promise.all([this.#departure.probation, ...this.#taken.keys()]);
    await Promise.race([certain, this.#almostOver]);
    if (this.#departure.isUndone) return false;
    let back = false;
    for (const [kept, units] of this.#taken) {
      const isKept = await Promise.race([kept, this.#almostOver]);
      if (isKept === true) this.#report.moved += units.length;
      else if (isKept === false) for (const unit of units) this.#giveBack(unit);
      else continue;
      this.#taken.delete(kept);
      back ||= !isKept;
    }
    return back;
  }

  #giveBack(unit: LiveUnit): void {
    unit.phase = "frozen";
    this.#survive(unit);
  }

  /** Those of which it is not certain have moved, unless they come back in time to be stopped. */
  async #confirm(kept: Promise<boolean>, units: readonly LiveUnit[]): Promise<void> {
    const isLost = (await Promise.race([kept, this.#departure.over])) === false;
    // It may be that this process serves again in a moment.
    if (isLost) await this.#departure.certain();
    if (this.#departure.isUndone) return;
    if (!isLost) this.#report.moved += units.length;
    else {
      for (const unit of units) this.#giveBack(unit);
      await this.#stopAll(units);
    }
  }

  /** Until the successor says what it has done with it, it may run there, and is not stopped here. */
  async #hearLate(unit: LiveUnit, offered: Offered): Promise<void> {
    offered.withdraw();
    const settlement = await Promise.race([offered.settled, this.#departure.over]);
    if (settlement?.how === "withdrawn" && settlement.died) await this.#departure.certain();
    if (this.#departure.isUndone) return;
    if (settlement?.how !== "taken") this.#count("ERR_TIMEOUT");
    if (settlement !== undefined && settlement.how !== "taken") return this.#stopAll([unit]);
    // If the successor dies on a probation that is longer than the drain it runs here again.
    unit.phase = "moved";
    if (settlement === undefined) this.#report.parked++;
    else await this.#confirm(settlement.kept, [unit]);
  }

  async #stopAll(units: readonly LiveUnit[]): Promise<void> {
    let left = units.length;
    const stopping = units.map(async (unit) => {
      const isStopped = await unit.stop(this.#drains.unitTimeout, (code) => this.#count(code));
      left--;
      if (isStopped && !this.#parked.has(unit)) this.#report.stopped++;
      else this.#report.parked++;
    });
    await Promise.race([Promise.all(stopping), this.#departure.over]);
    this.#report.parked += left;
  }
}

/** What is kept of the time of the drain for the rest, to freeze and to stop, in unitTimeouts; at most half of it. */
const STOPPING = 2;

/** Processes that may die over the same unit. */
const ATTEMPTS = 3;
