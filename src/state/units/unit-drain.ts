import { setImmediate as turn } from "node:timers/promises";
import type { ErrorCode, RefusalCode } from "../../errors.js";
import type { DrainReport } from "../../events.js";
import type { DrainContext } from "../../exchange/drain-context.js";
import { Route } from "../../exchange/route.js";
import { withTimeout } from "../../util/timeout.js";
import { UNIT_KIND, type MoveTerms, type Unit } from "./live-unit.js";
import type { DrainSettings, UnitKind } from "./unit-definition.js";
import { byPriority, type UnitQueue } from "./unit-queue.js";

/**
 * The drain of the units of one kind. Units that the successor takes move, a few at a time; the others are stopped as soon
 * as a rollback is impossible, or only the time to stop them is left.
 */
export class UnitDrain {
  /** Resolves when every unit has moved, ended or failed; also after a rollback. */
  readonly done: Promise<DrainReport>;
  readonly #kind: UnitKind;
  readonly #settings: DrainSettings;
  readonly #context: DrainContext;
  readonly #units: ReadonlyMap<string, Unit>;
  readonly #queue: UnitQueue;
  #route!: Route;
  readonly #report: DrainReport = { moved: 0, failed: 0, stopped: 0, ms: 0, peers: 0, failures: {} };
  /** Resolves when only the time to stop the remaining units is left, or the drain is over. */
  #stopTime: Promise<undefined> = Promise.resolve(undefined);
  #isStopTime = false;
  /** The end of the move, on the clock of `performance.now()`. */
  #moveEnd = 0;
  /** Units of all hosts that the successor has refused, as it was told to stop. */
  #leftBehind: Unit[] = [];
  /** Failures in a row. */
  #failuresInRow = 0;

  /**
   * @param queue may hold units already that the successor has asked for
   * @param previous a drain that this one waits for. It does not know the units that were started since
   */
  constructor(
    kind: UnitKind,
    settings: DrainSettings,
    units: ReadonlyMap<string, Unit>,
    queue: UnitQueue,
    context: DrainContext,
    previous?: Promise<unknown>,
  ) {
    this.#kind = kind;
    this.#settings = settings;
    this.#units = units;
    this.#queue = queue;
    this.#context = context;
    this.done = this.#run(previous);
  }

  async #run(previous: Promise<unknown> | undefined): Promise<DrainReport> {
    const start = performance.now();
    if (previous !== undefined) await Promise.race([previous, this.#context.over]);
    const untilStopTime = this.#setTimes();
    const { name, scope } = this.#kind;
    // A successor that does not answer must not take the time to stop the units, and an engine that is away no longer than a unit.
    const longest = this.#context.exchange === undefined ? this.#settings.unitTimeout : Infinity;
    this.#route =
      (await this.#context.routeOf(UNIT_KIND, name, scope === "global", Math.min(longest, untilStopTime))) ??
      new Route(undefined, false, UNIT_KIND, name);
    this.#report.peers = this.#route.peers.length;
    await this.#fillQueue();
    const { concurrency = this.#route.exchange?.window ?? 1 } = this.#settings;
    do {
      await Promise.all(Array.from({ length: concurrency }, async () => this.#moveSome()));
    } while ((await this.#takeBack()) || this.#turnToHosts());
    if (!this.#context.isRolledBack) await this.#endRest();
    return { ...this.#report, ms: Math.round(performance.now() - start) };
  }

  /** Returns the ms until the stop time. */
  #setTimes(): number {
    const { timeout, unitTimeout } = this.#settings;
    const { remaining, over } = this.#context;
    const untilStopTime = Math.max(remaining - STOP_PERIODS * unitTimeout, remaining / 2);
    this.#moveEnd = performance.now() + Math.min(timeout, untilStopTime);
    this.#stopTime = withTimeout(untilStopTime, over).then(() => {
      this.#isStopTime = true;
      return undefined;
    });
    return untilStopTime;
  }

  get #mayMove(): boolean {
    return this.#settings.enabled && this.#report.peers > 0;
  }

  async #fillQueue(): Promise<void> {
    if (!this.#mayMove) return;
    await this.#allStarted();
    const units = this.#inPhase("running", "frozen").filter(({ isExhausted }) => !isExhausted);
    for (const unit of byPriority(units, this.#kind, (code) => this.#count(code))) this.#queue.add(unit);
  }

  /** `eligible`, `priority` and `freeze` need the result of `run`. */
  async #allStarted(): Promise<void> {
    const starting = [...this.#units.values()].filter(({ isStarted }) => !isStarted);
    if (starting.length === 0) return;
    await withTimeout(this.#settings.unitTimeout, Promise.allSettled(starting.map(({ started }) => started)));
  }

  async #moveSome(): Promise<void> {
    let unit;
    while (this.#isMoving() && (unit = this.#queue.next()) !== undefined) {
      // It may have been released.
      if (this.#units.get(unit.id) === unit) await this.#move(unit);
    }
  }

  #isMoving(): boolean {
    // The timer of the stop time may be early or late by a fraction of a millisecond: either ends the move.
    const isOver = this.#isStopTime || performance.now() >= this.#moveEnd;
    if (isOver || this.#context.isRolledBack || this.#failuresInRow >= this.#settings.giveUpAfter)
      return false;
    return this.#route.hasTaker;
  }

  async #move(unit: Unit): Promise<void> {
    const result = await unit.move(this.#terms);
    if (result === undefined) return;
    if (result === "taken") {
      this.#failuresInRow = 0;
      if (unit.phase === "moved") this.#report.moved++;
    } else if (result === "lost") this.#fail("ERR_CHANNEL");
    else if (result === "returned") {
      this.#requeue(unit);
      // An offer for which there were no descriptors comes back at once. The next one would keep the event loop busy.
      await turn();
    } else if (result.code === "ERR_STOPPED" && this.#mayTurn) this.#leftBehind.push(unit);
    else {
      this.#failuresInRow++;
      this.#count(result.code);
    }
  }

  get #terms(): MoveTerms {
    return {
      context: this.#context,
      route: this.#route,
      timeout: this.#settings.unitTimeout,
      stopTime: this.#stopTime,
    };
  }

  get #mayTurn(): boolean {
    return this.#kind.scope === "global" && !this.#route.isGlobal && this.#toHosts !== undefined;
  }

  get #toHosts(): Route | undefined {
    return this.#context.hostsRoute(UNIT_KIND, this.#kind.name);
  }

  /** A service that is told to stop in an upgrade: what the successor has goes to other hosts, and so does what it has not. */
  #turnToHosts(): boolean {
    const units = this.#leftBehind;
    if (units.length === 0 || this.#context.isRolledBack) return false;
    this.#leftBehind = [];
    this.#route = this.#toHosts!;
    this.#report.peers = this.#route.peers.length;
    for (const unit of units) this.#requeue(unit);
    return true;
  }

  #requeue(unit: Unit): void {
    if (!unit.isExhausted) this.#queue.add(unit);
  }

  #fail(code: ErrorCode): void {
    this.#report.failed++;
    this.#count(code);
  }

  #count(code: string): void {
    const { failures } = this.#report;
    failures[code] = (failures[code] ?? 0) + 1;
  }

  /**
   * Waits until the probation of the successor has ended, or only the time to stop the remaining units is left. Returns
   * whether units came back that may move again.
   */
  async #takeBack(): Promise<boolean> {
    const taken = this.#takenUnits();
    const certain = Promise.all([this.#context.confirmed, ...taken.keys()]);
    await Promise.race([certain, this.#stopTime]);
    if (this.#context.isRolledBack) return false;
    let areBack = false;
    for (const [confirmed, units] of taken) {
      const isConfirmed = await Promise.race([confirmed, this.#stopTime]);
      if (isConfirmed === undefined) continue;
      this.#settleProbation(units, isConfirmed);
      if (isConfirmed) continue;
      for (const unit of units) this.#requeue(unit);
      areBack = true;
    }
    return areBack;
  }

  #settleProbation(units: readonly Unit[], isConfirmed: boolean): void {
    if (isConfirmed) this.#report.moved += units.length;
    for (const unit of units) unit.settleProbation(isConfirmed);
  }

  async #endRest(): Promise<void> {
    const rest = this.#inPhase("running", "frozen");
    const taken = [...this.#takenUnits()].map(async (one) => this.#awaitProbation(...one));
    const late = this.#inPhase("offered").map(async (unit) => this.#awaitLateResult(unit));
    await Promise.all([this.#stopAll(rest), ...taken, ...late]);
  }

  /** Units that are not confirmed at the end of the drain count as moved. Units that come back before are stopped. */
  async #awaitProbation(confirmed: Promise<boolean>, units: readonly Unit[]): Promise<void> {
    const isConfirmed = await Promise.race([confirmed, this.#context.over]);
    // A rollback may follow the death of the successor: the units run here again then, and must not be stopped.
    if (isConfirmed === false) await this.#context.rollbackImpossible();
    if (this.#context.isRolledBack) return;
    if (isConfirmed === undefined) this.#report.moved += units.length;
    else this.#settleProbation(units, isConfirmed);
    if (isConfirmed === false) await this.#stopAll(units);
  }

  async #awaitLateResult(unit: Unit): Promise<void> {
    const result = await unit.recall(this.#context);
    if (result === undefined) return;
    if (result === "lost") return this.#fail("ERR_CHANNEL");
    if (result !== "taken") this.#count("ERR_TIMEOUT" satisfies RefusalCode);
    if (result === "taken") await this.#awaitProbation(unit.confirmed!, [unit]);
    else if (result === "returned") await this.#stopAll([unit]);
    else this.#report.failed++;
    return undefined;
  }

  async #stopAll(units: readonly Unit[]): Promise<void> {
    let left = units.length;
    const stopping = units.map(async (unit) => {
      const isStopped = await unit.stop(this.#settings.unitTimeout, (code) => this.#count(code));
      left--;
      if (isStopped && !(this.#mayMove && unit.isExhausted)) this.#report.stopped++;
      else this.#report.failed++;
    });
    await Promise.race([Promise.all(stopping), this.#context.over]);
    this.#report.failed += left;
  }

  #inPhase(...phases: readonly Unit["phase"][]): Unit[] {
    return [...this.#units.values()].filter(({ phase }) => phases.includes(phase));
  }

  /** The units that the successor has taken, by the promise that tells whether they can come back. */
  #takenUnits(): Map<Promise<boolean>, Unit[]> {
    const taken = new Map<Promise<boolean>, Unit[]>();
    for (const unit of this.#inPhase("taken")) {
      if (unit.confirmed === undefined) continue;
      const units = taken.get(unit.confirmed) ?? [];
      units.push(unit);
      taken.set(unit.confirmed, units);
    }
    return taken;
  }
}

/** The part of the drain that is kept to freeze and stop the remaining units, in unitTimeouts; at most half of it. */
const STOP_PERIODS = 2;
