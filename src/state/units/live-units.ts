import type { Ownership, OwnResult } from "../../exchange/directory.js";
import type { UnitClaims } from "./unit-claims.js";
import { Unit } from "./live-unit.js";
import type { UnitKind } from "./unit-definition.js";
import type { UnitPhase } from "./unit-phase.js";

/** The phases of units that are here: a drain moves or ends them. */
const HERE: ReadonlySet<UnitPhase> = new Set(["running", "frozen", "offered"]);

/** The units of one kind that this process has, and those that the successor has taken and may give back. */
export class LiveUnits {
  readonly #kind: UnitKind;
  readonly #claims: UnitClaims | undefined;
  readonly #isGlobal: boolean;
  readonly #units = new Map<string, Unit>();

  /**
   * @param claims undefined if this process asks no other one before it runs a unit
   * @param isGlobal whether other hosts take part
   */
  constructor(kind: UnitKind, claims: UnitClaims | undefined, isGlobal: boolean) {
    this.#kind = kind;
    this.#claims = claims;
    this.#isGlobal = isGlobal;
  }

  /** In every phase, by id. */
  get all(): ReadonlyMap<string, Unit> {
    return this.#units;
  }

  /** The number of units that run. */
  get runningCount(): number {
    let running = 0;
    for (const { phase } of this.#units.values()) if (phase === "running") running++;
    return running;
  }

  /** Whether no unit is left but those that the successor has taken, which a rollback brings back. */
  get isDrained(): boolean {
    return [...this.#units.values()].every((unit) => !this.isHere(unit));
  }

  /** Whether a unit is here: a drain still moves or ends it. */
  isHere({ phase }: Unit): boolean {
    return HERE.has(phase);
  }

  /** Whether a unit is the one of its id: it was not removed, and no other one has taken its place. */
  isCurrent(unit: Unit): boolean {
    return this.#units.get(unit.id) === unit;
  }

  /** The unit of an id, if it runs. */
  findRunning(id: string): Unit | undefined {
    const unit = this.#units.get(id);
    return unit?.phase === "running" ? unit : undefined;
  }

  /** @param end is called if it cannot run */
  begin(id: string, state: unknown, fence: number, end = (one: Unit): void => this.remove(one)): Unit {
    const onLeft = (left: Ownership): void => {
      // Between hosts it went with the parcel; the next holder of the seat has it with the seat.
      if (!this.#isGlobal || !unit.hasLeft) this.#claims?.disown(left);
      // Its state would stay in memory until all others have left.
      if (unit.phase === "moved") this.#units.delete(id);
    };
    const claims = this.#isGlobal ? undefined : this.#claims;
    const ownAgain = claims && (async (one: Unit): Promise<void> => this.#renew(claims, one));
    const unit: Unit = new Unit(this.#kind, id, state, fence, onLeft, ownAgain);
    this.#units.set(id, unit);
    unit.started.catch(() => end(unit));
    return unit;
  }

  /** Ends a unit, without its `stop`, and gives it up. */
  remove(unit: Unit): void {
    if (this.isCurrent(unit)) this.#units.delete(unit.id);
    unit.end();
  }

  /** Ends a unit that was not this process's. */
  drop(unit: Unit): void {
    if (this.isCurrent(unit)) this.#units.delete(unit.id);
    unit.lose();
  }

  /** The lease has ended: what runs here must end before another host may run it. */
  loseAll(): void {
    const units = [...this.#units.values()];
    this.#units.clear();
    for (const unit of units) unit.lose();
  }

  /** Forgets the units that are over: the drain has ended. */
  forget(isOver: (unit: Unit) => boolean): void {
    for (const unit of this.#units.values()) {
      if (!isOver(unit)) continue;
      this.#units.delete(unit.id);
      unit.leave();
    }
  }

  /** A worker that had the unit, and gave it back, has had a fence of the supervisor's. */
  async #renew(claims: UnitClaims, unit: Unit): Promise<void> {
    const use = (result: OwnResult): void => {
      if (!("fence" in result)) return;
      if (this.isHere(unit)) unit.own(result.fence);
      else claims.disown({ id: unit.id, fence: result.fence });
    };
    // Without the supervisor it stays as it is.
    await claims.own(unit.id, undefined, use).catch(() => {});
  }
}
