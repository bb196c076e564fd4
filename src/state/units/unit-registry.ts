import { HandoverError, reasonOf, type UnitOwner } from "../../errors.js";
import type { DrainReport } from "../../events.js";
import type { OwnResult } from "../../exchange/directory.js";
import { DrainContext } from "../../exchange/drain-context.js";
import type { Delivery, Exchange, TakeResult } from "../../exchange/exchange.js";
import type { StateHosts } from "../../exchange/hosts.js";
import { makeRefusal, type Parcel, type Refusal } from "../../exchange/parcel.js";
import { isThenable, TIMED_OUT, withTimeout } from "../../util/timeout.js";
import { requireStateName } from "../schema.js";
import { decode } from "../encoding.js";
import { Arrivals } from "./arrivals.js";
import { UNIT_KIND, Unit } from "./live-unit.js";
import { UnitClaims } from "./unit-claims.js";
import {
  readDrainSettings,
  type DrainOptions,
  type DrainSettings,
  type UnitKind,
} from "./unit-definition.js";
import { UnitDrain } from "./unit-drain.js";
import type { UnitPhase } from "./unit-phase.js";
import { UnitQueue } from "./unit-queue.js";
import type { UnitHost, Units } from "./units.js";

/** The phases of units that still move or end. */
const LEFT: ReadonlySet<UnitPhase> = new Set(["running", "frozen", "offered"]);

/** Runs the units of one kind. */
export class UnitRegistry implements Units<unknown, unknown> {
  readonly #kind: UnitKind;
  readonly #host: UnitHost;
  readonly #units = new Map<string, Unit>();
  readonly #arrivals = new Arrivals();
  /** Undefined if this process asks no other one before it runs a unit. */
  readonly #claims: UnitClaims | undefined;
  /** Whether other hosts take part. */
  readonly #isGlobal: boolean;
  /** Units whose hosts have died, while the program looks for their states. */
  readonly #recovering = new Map<string, Promise<void>>();
  /** The order in which units move. The successor can ask for one before they do. */
  #queue = new UnitQueue();
  #drain: UnitDrain | undefined;
  /** A drain that the program has asked for while this process serves. */
  #ownDrain: Promise<DrainReport> | undefined;

  constructor(kind: UnitKind, host: UnitHost) {
    this.#kind = kind;
    this.#host = host;
    this.#isGlobal = kind.scope === "global" && host.hosts !== undefined;
    const directory = this.#isGlobal ? host.hosts!.directory : host.directory;
    if (kind.scope !== "process" && directory !== undefined)
      this.#claims = new UnitClaims(directory, kind.name, this.#isGlobal ? undefined : host.self.index);
    if (this.#isGlobal) this.#joinHosts(host.hosts!);
  }

  /** Takes units that other hosts offer, and those of hosts that have died. */
  #joinHosts(hosts: StateHosts): void {
    const { exchange, directory } = hosts;
    const { name, capacity, definition } = this.#kind;
    const room = (): number => capacity - this.size;
    exchange.subscribe(
      UNIT_KIND,
      name,
      async (parcel, delivery) => this.#take(parcel, delivery),
      capacity === Infinity ? {} : { room },
    );
    if (definition.recover !== undefined)
      directory.orphans(name, (id, fence) => void this.#recover(id, fence));
    hosts.onLost(() => this.#lose());
  }

  /** The lease has ended: what runs here must end before another host may run it. */
  #lose(): void {
    const units = [...this.#units.values()];
    this.#units.clear();
    // Others may recover them by then.
    this.#recovering.clear();
    for (const unit of units) unit.lose();
  }

  /** A unit is this process's, as its host has died. */
  async #recover(id: string, fence: number): Promise<void> {
    const { definition, schema } = this.#kind;
    let state: unknown;
    const recovering = (async () => {
      state = await definition.recover!(id);
      if (state !== undefined && schema.check?.(state) === false) throw new Error("check returned false");
    })().catch((error: unknown) => {
      const what = `${this.#subject(id)} is not recovered`;
      process.emitWarning(`${what}: ${reasonOf(error)}`, { code: "HANDOVER_UNIT" });
      state = undefined;
    });
    this.#recovering.set(id, recovering);
    await recovering;
    // It may have been lost meanwhile, and be another host's.
    if (this.#recovering.get(id) !== recovering || !this.#host.hosts!.isHeld) return;
    this.#recovering.delete(id);
    const { drainContext } = this.#host;
    if (this.#units.has(id)) return;
    if (state !== undefined && drainContext === undefined) this.#begin(id, state, fence);
    // Without its seat, which this process leaves, it is the unit of a dead host again: another one recovers it.
    else if (state === undefined || drainContext?.exchange !== undefined) this.#claims?.disown({ id, fence });
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
    const { unitTimeout } = this.#kind.drainSettings;
    if ((await withTimeout(unitTimeout, this.#recovering.get(id))) === TIMED_OUT)
      throw new HandoverError("ERR_UNIT", `cannot ${doing}: recover() took more than ${unitTimeout} ms`);
    const running = this.#running(id);
    if (running !== undefined) return running.started;
    this.#host.assertMayRun(doing);
    const claims = this.#claims;
    if (claims === undefined) return this.#begin(id, initial, this.#host.fences.next()).started;
    if (claims.isPending(id)) {
      await claims.settled(id, unitTimeout, doing);
      return this.start(id, initial);
    }
    const unit = await claims.begin(id, unitTimeout, doing, (fence) => {
      this.#host.assertMayRun(doing);
      // Meanwhile it may have come as the unit of a host that has died.
      const recovered = this.#running(id);
      recovered?.own(fence);
      return recovered ?? this.#begin(id, initial, fence);
    });
    return unit.started;
  }

  async where(id: string): Promise<UnitOwner | undefined> {
    requireStateName("the id of a unit", id);
    if (this.#claims !== undefined) return this.#claims.where(id);
    return this.#running(id) === undefined ? undefined : this.#host.self;
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
    for (const unit of this.#units.values()) {
      if (unit.phase === "moved") this.#remove(unit);
      else if (this.#claims === undefined) void this.#restart(unit, this.#host.fences.next());
      else void this.#ownAgain(this.#claims, unit);
    }
  }

  /** The successor is dead, so a unit that it had is this process's; one that this process has stopped may run elsewhere. */
  async #ownAgain(claims: UnitClaims, unit: Unit): Promise<void> {
    const recalled = unit.takeBack();
    const { id } = unit;
    const use = (result: OwnResult): void => {
      if (this.#units.get(id) !== unit) {
        if ("fence" in result) claims.disown({ id, fence: result.fence });
      } else if (!("fence" in result)) this.#remove(unit);
      else if (this.#host.drainContext === undefined && !unit.hasLeft) void this.#restart(unit, result.fence);
      // The next upgrade, or a stop, has begun: it moves or stops the unit as it is.
      else if (LEFT.has(unit.phase)) unit.own(result.fence);
      else {
        this.#remove(unit);
        claims.disown({ id, fence: result.fence });
      }
    };
    try {
      await claims.own(id, undefined, use, recalled);
    } catch {
      // Without its supervisor this process stops, and its units with it. The engine of the hosts may be away for a moment.
      if (this.#isGlobal && this.#host.hosts!.isHeld && this.#units.get(id) === unit)
        void this.#restart(unit, this.#host.fences.next());
    }
  }

  async #restart(unit: Unit, fence: number): Promise<void> {
    try {
      if (!(await unit.restart(fence))) this.#remove(unit);
    } catch (error) {
      this.#remove(unit);
      const what = `${this.#subject(unit.id)} does not run again after a rollback`;
      process.emitWarning(`${what}: ${reasonOf(error)}`, { code: "HANDOVER_UNIT" });
    }
  }

  /** Takes the units that a predecessor offers. */
  subscribeTo(exchange: Exchange): void {
    exchange.subscribe(UNIT_KIND, this.#kind.name, async (parcel, delivery) => {
      // They are of the seat that the predecessor has given.
      if (this.#isGlobal && !this.#host.hosts!.isInherited) return makeRefusal("ERR_LEASE");
      return this.#take(parcel, delivery);
    });
  }

  async #take(parcel: Parcel, delivery: Delivery): Promise<TakeResult> {
    const { id } = parcel;
    const { accept } = this.#kind.definition;
    const accepting = accept?.(id, { age: delivery.age ?? 0, from: delivery.from });
    const isAccepted = isThenable(accepting) ? await accepting : accepting;
    if (isAccepted === false) return makeRefusal("ERR_REFUSED");
    const claims = this.#claims;
    if (this.#units.has(id) || claims?.isPending(id) === true) return makeRefusal("ERR_RUNNING");
    const refusal = this.#whyNotNow(delivery);
    if (refusal !== undefined) return refusal;
    const state = decode(this.#kind.schema, parcel);
    // Between hosts, and to the next holder of a seat, the unit is this process's with the parcel.
    if (claims === undefined || this.#isGlobal) return this.#runTaken(id, state, delivery, delivery.fence);
    return claims.own(id, delivery.from, (result) => {
      if (!("fence" in result)) return makeRefusal("ERR_RUNNING", `worker ${result.owner.index} has it`);
      const late = this.#whyNotNow(delivery);
      if (late === undefined) return this.#runTaken(id, state, delivery, result.fence);
      claims.disown({ id, fence: result.fence });
      return late;
    });
  }

  #whyNotNow({ signal }: Delivery): Refusal | undefined {
    if (this.#host.drainContext !== undefined) return makeRefusal("ERR_STOPPED");
    if (this.#isGlobal && !this.#host.hosts!.isHeld) return makeRefusal("ERR_LEASE");
    return signal.aborted ? makeRefusal("ERR_TIMEOUT") : undefined;
  }

  async #runTaken(id: string, state: unknown, { signal }: Delivery, fence: number): Promise<TakeResult> {
    // Until it is taken it is its owner's, which may have the same seat: to give it up would free it.
    const end = (one: Unit): void => (this.#isGlobal ? this.#drop(one) : this.#remove(one));
    const unit = this.#begin(id, state, fence, end);
    signal.addEventListener("abort", () => end(unit), { once: true });
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

  /** @param end is called if it cannot run */
  #begin(id: string, state: unknown, fence: number, end = (one: Unit): void => this.#remove(one)): Unit {
    const unit: Unit = new Unit(this.#kind, id, state, fence, (left) => {
      // Between hosts it went with the parcel; the next holder of the seat has it with the seat.
      if (!this.#isGlobal || !unit.hasLeft) this.#claims?.disown(left);
      // Its state would stay in memory until all others have left.
      if (unit.phase === "moved") this.#units.delete(id);
    });
    this.#units.set(id, unit);
    unit.started.catch(() => end(unit));
    return unit;
  }

  #remove(unit: Unit): void {
    if (this.#units.get(unit.id) === unit) this.#units.delete(unit.id);
    unit.end();
  }

  /** Ends a unit that was not this process's. */
  #drop(unit: Unit): void {
    if (this.#units.get(unit.id) === unit) this.#units.delete(unit.id);
    unit.lose();
  }

  #forget(isOver: (unit: Unit) => boolean): void {
    for (const unit of this.#units.values()) {
      if (!isOver(unit)) continue;
      this.#units.delete(unit.id);
      unit.leave();
    }
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
