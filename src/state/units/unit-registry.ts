import { HandoverError, reasonOf, type UnitOwner } from "../../errors.js";
import type { DrainReport } from "../../events.js";
import type { OwnResult } from "../../exchange/directory.js";
import { DrainContext } from "../../exchange/drain-context.js";
import type { Exchange } from "../../exchange/exchange.js";
import type { StateHosts } from "../../exchange/hosts.js";
import { asyncAtCaller, throwAtCaller } from "../../platform/at-caller.js";
import { TIMED_OUT, withTimeout } from "../../util/timeout.js";
import { requireStateName } from "../schema.js";
import type { Unit } from "./live-unit.js";
import { LiveUnits } from "./live-units.js";
import { UnitClaims } from "./unit-claims.js";
import {
  readDrainSettings,
  type DrainOptions,
  type DrainSettings,
  type UnitKind,
} from "./unit-definition.js";
import { UnitDrain } from "./unit-drain.js";
import { UnitQueue } from "./unit-queue.js";
import { UnitRecovery } from "./unit-recovery.js";
import { UnitTaker } from "./unit-taker.js";
import type { UnitHost, Units } from "./units.js";

/** The units of one kind, as the program starts, drains and releases them. */
export class UnitRegistry implements Units<unknown, unknown> {
  readonly #kind: UnitKind;
  readonly #host: UnitHost;
  /** The other hosts; undefined if none takes part. */
  readonly #hosts: StateHosts | undefined;
  /** Undefined if this process asks no other one before it runs a unit. */
  readonly #claims: UnitClaims | undefined;
  readonly #units: LiveUnits;
  readonly #taker: UnitTaker;
  /** Undefined without other hosts. */
  readonly #recovery: UnitRecovery | undefined;
  /** The order in which units move. The successor can ask for one before they do. */
  #queue = new UnitQueue();
  #drain: UnitDrain | undefined;
  /** A drain that the program has asked for while this process serves. */
  #ownDrain: Promise<DrainReport> | undefined;

  constructor(kind: UnitKind, host: UnitHost) {
    this.#kind = kind;
    this.#host = host;
    const hosts = kind.scope === "global" ? host.hosts : undefined;
    this.#hosts = hosts;
    const directory = hosts?.directory ?? host.directory;
    if (kind.scope !== "process" && directory !== undefined)
      this.#claims = new UnitClaims(directory, kind.name, hosts === undefined ? host.self.index : undefined);
    this.#units = new LiveUnits(kind, this.#claims, hosts !== undefined);
    this.#taker = new UnitTaker(kind, host, hosts, this.#units, this.#claims);
    if (hosts === undefined) return;
    this.#recovery = new UnitRecovery(kind, host, hosts, this.#units, this.#claims!);
    hosts.onLost(() => this.#lose());
  }

  #lose(): void {
    this.#recovery!.lose();
    this.#units.loseAll();
  }

  get size(): number {
    return this.#units.runningCount;
  }

  /** Whether no unit is left here but those that the successor has taken, which a rollback brings back. */
  get isDrained(): boolean {
    return this.#units.isDrained;
  }

  get(id: string): unknown {
    return this.#units.findRunning(id)?.value;
  }

  // Not by asyncAtCaller(): its promises would take a third of the time to start a unit.
  async start(id: string, initial: unknown): Promise<unknown> {
    try {
      requireStateName("the id of a unit", id);
      const doing = `start ${this.#subject(id)}`;
      if (this.#units.findRunning(id) === undefined) {
        this.#host.assertMayRun(doing, this.#hosts !== undefined);
        await this.#taker.awaitArrival(id, doing);
      }
      const { unitTimeout } = this.#kind.drainSettings;
      if ((await withTimeout(unitTimeout, this.#recovery?.pending(id))) === TIMED_OUT)
        throw new HandoverError("ERR_UNIT", `cannot ${doing}: recover() took more than ${unitTimeout} ms`);
      const running = this.#units.findRunning(id);
      if (running !== undefined) return running.started;
      this.#host.assertMayRun(doing, this.#hosts !== undefined);
      const claims = this.#claims;
      if (claims === undefined) return this.#units.begin(id, initial, this.#host.fences.next()).started;
      if (claims.isPending(id)) {
        await claims.settled(id, unitTimeout, doing);
        return await this.start(id, initial);
      }
      const unit = await claims.begin(id, unitTimeout, doing, (fence) => {
        this.#host.assertMayRun(doing, this.#hosts !== undefined);
        // Meanwhile it may have come as the unit of a host that has died.
        const recovered = this.#units.findRunning(id);
        recovered?.own(fence);
        return recovered ?? this.#units.begin(id, initial, fence);
      });
      return unit.started;
    } catch (error) {
      return throwAtCaller(error, Reflect.get(this, "start"));
    }
  }

  where(id: string): Promise<UnitOwner | undefined> {
    return asyncAtCaller(this, "where", () => {
      requireStateName("the id of a unit", id);
      if (this.#claims !== undefined) return this.#claims.where(id);
      return this.#units.findRunning(id) === undefined ? undefined : this.#host.self;
    });
  }

  release(id: string): boolean {
    const unit = this.#units.findRunning(id);
    if (unit === undefined) return false;
    this.#units.remove(unit);
    return true;
  }

  drain(options: DrainOptions = {}): Promise<DrainReport> {
    return asyncAtCaller(this, "drain", () =>
      this.#drainAll(readDrainSettings(options, this.#kind.drainSettings)),
    );
  }

  async #drainAll(settings: DrainSettings): Promise<DrainReport> {
    const context = this.#host.drainContext;
    if (context === undefined) return (this.#ownDrain ??= this.#drainAlone(settings));
    this.#drain ??= this.#newDrain(settings, context, this.#ownDrain);
    const report = await this.#drain.done;
    if (context.isRolledBack) return report;
    this.#units.forget(({ phase }) => phase !== "taken");
    // The probation of the successor may be longer than the drain: a rollback brings these units back.
    void context.confirmed.then(
      (isConfirmed) => isConfirmed && this.#units.forget(({ phase }) => phase === "taken"),
    );
    return report;
  }

  /** Stops all units of a process that serves. Others may be started meanwhile. */
  async #drainAlone(settings: DrainSettings): Promise<DrainReport> {
    const context = new DrainContext(undefined, Promise.resolve(true), OWN_DRAIN_TIMEOUT);
    const report = await this.#newDrain(settings, context).done;
    context.end();
    this.#ownDrain = undefined;
    this.#units.forget(({ hasAborted }) => hasAborted);
    return report;
  }

  #newDrain(settings: DrainSettings, context: DrainContext, previous?: Promise<unknown>): UnitDrain {
    return new UnitDrain(this.#kind, settings, this.#units.all, this.#queue, context, previous);
  }

  /** Runs the units again that were frozen, with higher fences. */
  rollBack(): void {
    this.#drain = undefined;
    this.#queue = new UnitQueue();
    for (const unit of this.#units.all.values()) {
      if (unit.phase === "moved") this.#units.remove(unit);
      else if (this.#claims === undefined) void this.#restart(unit, this.#host.fences.next());
      else void this.#ownAgain(this.#claims, unit);
    }
  }

  /** The successor is dead, so a unit that it had is this process's; one that this process has stopped may run elsewhere. */
  async #ownAgain(claims: UnitClaims, unit: Unit): Promise<void> {
    const recalled = unit.takeBack();
    const { id } = unit;
    const use = (result: OwnResult): void => {
      if (!this.#units.isCurrent(unit)) {
        if ("fence" in result) claims.disown({ id, fence: result.fence });
      } else if (!("fence" in result)) this.#units.remove(unit);
      else if (this.#host.drainContext === undefined && !unit.hasLeft) void this.#restart(unit, result.fence);
      // The next upgrade, or a stop, has begun: it moves or stops the unit as it is.
      else if (this.#units.isHere(unit)) unit.own(result.fence);
      else {
        this.#units.remove(unit);
        claims.disown({ id, fence: result.fence });
      }
    };
    try {
      await claims.own(id, undefined, use, recalled);
    } catch {
      // Without its supervisor this process stops, and its units with it. The engine of the hosts may be away for a moment.
      if (this.#hosts?.isHeld === true && this.#units.isCurrent(unit))
        void this.#restart(unit, this.#host.fences.next());
    }
  }

  async #restart(unit: Unit, fence: number): Promise<void> {
    try {
      if (!(await unit.restart(fence))) this.#units.remove(unit);
    } catch (error) {
      this.#units.remove(unit);
      const what = `${this.#subject(unit.id)} does not run again after a rollback`;
      process.emitWarning(`${what}: ${reasonOf(error)}`, { code: "HANDOVER_UNIT" });
    }
  }

  /** Takes the units that a predecessor offers. */
  subscribeTo(exchange: Exchange): void {
    this.#taker.subscribeTo(exchange);
  }

  /** Returns whether this process has the unit, which the successor waits for; the unit moves next then. */
  expedite(id: string): boolean {
    const unit = this.#units.all.get(id);
    if (unit === undefined || unit.phase === "taken" || unit.phase === "moved") return false;
    this.#queue.expedite(unit);
    return true;
  }

  #subject(id: string): string {
    return `unit ${this.#kind.name} "${id}"`;
  }
}

/** The time, in ms, for a drain that the program asks for while this process serves. */
const OWN_DRAIN_TIMEOUT = 30_000;
