import { HandoverError } from "../../errors.js";
import type { Delivery, Exchange, TakeResult } from "../../exchange/exchange.js";
import type { StateHosts } from "../../exchange/hosts.js";
import { makeRefusal, type Parcel, type Refusal } from "../../exchange/parcel.js";
import { isThenable } from "../../util/timeout.js";
import { decode } from "../encoding.js";
import { Arrivals } from "./arrivals.js";
import { UNIT_KIND, type Unit } from "./live-unit.js";
import type { LiveUnits } from "./live-units.js";
import type { UnitClaims } from "./unit-claims.js";
import type { UnitKind } from "./unit-definition.js";
import type { UnitHost } from "./units.js";

/** Takes the units of one kind that a predecessor or another host offers. */
export class UnitTaker {
  readonly #kind: UnitKind;
  readonly #host: UnitHost;
  readonly #hosts: StateHosts | undefined;
  readonly #units: LiveUnits;
  readonly #claims: UnitClaims | undefined;
  readonly #arrivals = new Arrivals();

  /**
   * @param hosts undefined if no other host takes part
   * @param claims undefined if this process asks no other one before it runs a unit
   */
  constructor(
    kind: UnitKind,
    host: UnitHost,
    hosts: StateHosts | undefined,
    units: LiveUnits,
    claims: UnitClaims | undefined,
  ) {
    this.#kind = kind;
    this.#host = host;
    this.#hosts = hosts;
    this.#units = units;
    this.#claims = claims;
    if (hosts === undefined) return;
    const { capacity, name } = kind;
    const room = (): number => capacity - units.runningCount;
    hosts.exchange.subscribe(
      UNIT_KIND,
      name,
      async (parcel, delivery) => this.#take(parcel, delivery),
      capacity === Infinity ? {} : { room },
    );
  }

  /** Takes the units that a predecessor offers. */
  subscribeTo(exchange: Exchange): void {
    exchange.subscribe(UNIT_KIND, this.#kind.name, async (parcel, delivery) => {
      // They are of the seat that the predecessor has given.
      if (this.#hosts?.isInherited === false) return makeRefusal("ERR_LEASE");
      return this.#take(parcel, delivery);
    });
  }

  /**
   * Lets a predecessor move a unit next, if it has it, and waits until the unit has arrived or was stopped there.
   *
   * @throws {HandoverError} `ERR_UNIT` if the predecessor keeps it for longer than `unitTimeout`
   */
  async awaitArrival(id: string, doing: string): Promise<void> {
    if (!(await this.#isElsewhere(id)) || this.#units.findRunning(id) !== undefined) return;
    if (await this.#arrivals.wait(id, this.#kind.drainSettings.unitTimeout)) return;
    if (!(await this.#isElsewhere(id))) return;
    throw new HandoverError(
      "ERR_UNIT",
      `cannot ${doing}: a predecessor has it, and did not release it in time`,
    );
  }

  async #isElsewhere(id: string): Promise<boolean> {
    const predecessors = this.#host.predecessors();
    if (predecessors.length === 0) return false;
    const held = await Promise.all(
      predecessors.map(async (exchange) => exchange.expedite(UNIT_KIND, this.#kind.name, id)),
    );
    return held.includes(true);
  }

  async #take(parcel: Parcel, delivery: Delivery): Promise<TakeResult> {
    const { id } = parcel;
    const { accept } = this.#kind.definition;
    const asked = { age: false };
    const accepting = accept?.(id, {
      get age() {
        asked.age = true;
        return delivery.age ?? 0;
      },
      from: delivery.from,
    });
    const isAccepted = isThenable(accepting) ? await accepting : accepting;
    // An answer that depends on the age is another one later.
    if (isAccepted === false) return asked.age ? "later" : makeRefusal("ERR_REFUSED");
    const claims = this.#claims;
    if (this.#units.all.has(id) || claims?.isPending(id) === true) return makeRefusal("ERR_RUNNING");
    const refusal = this.#whyNotNow(delivery);
    if (refusal !== undefined) return refusal;
    const state = decode(this.#kind.schema, parcel);
    // Between hosts, and to the next holder of a seat, the unit is this process's with the parcel.
    if (claims === undefined || this.#hosts !== undefined)
      return this.#run(id, state, delivery, delivery.fence);
    return claims.own(id, delivery.from, (result) => {
      if (!("fence" in result)) return makeRefusal("ERR_RUNNING", `worker ${result.owner.index} has it`);
      const late = this.#whyNotNow(delivery);
      if (late === undefined) return this.#run(id, state, delivery, result.fence);
      claims.disown({ id, fence: result.fence });
      return late;
    });
  }

  #whyNotNow({ signal }: Delivery): Refusal | undefined {
    if (this.#host.drainContext !== undefined) return makeRefusal("ERR_STOPPED");
    if (this.#hosts?.isHeld === false) return makeRefusal("ERR_LEASE");
    return signal.aborted ? makeRefusal("ERR_TIMEOUT") : undefined;
  }

  async #run(id: string, state: unknown, { signal }: Delivery, fence: number): Promise<TakeResult> {
    // Until it is taken it is its owner's, which may have the same seat: to give it up would free it.
    const end = (one: Unit): void =>
      this.#hosts === undefined ? this.#units.remove(one) : this.#units.drop(one);
    const unit = this.#units.begin(id, state, fence, end);
    signal.addEventListener("abort", () => end(unit), { once: true });
    await unit.started;
    if (!signal.aborted) this.#arrivals.arrived(id);
    return "taken";
  }
}
