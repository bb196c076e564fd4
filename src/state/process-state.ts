import { HandoverError } from "../errors.js";
import { Departure } from "./drain-context.js";
import { readName, type Shape } from "./schema.js";
import type { Exchange } from "../exchange/exchange.js";
import { Fences } from "../exchange/fencing.js";
import { KIND } from "./units/unit.js";
import { Roles } from "./roles.js";
import { Slots, type Slot } from "./slots/slots.js";
import { readKind, type DrainReport, type UnitDefinition } from "./units/definition.js";
import { UnitRunner, type Units } from "./units/units.js";

/** What state needs of its process. */
interface StateHost {
  /** What leads to the generations before, while they live: the parent first. */
  readonly older: () => readonly Exchange[];
  /** @throws {HandoverError} where no unit can be started yet, or any more */
  readonly requireActive: (doing: string) => void;
}

/** What a process holds in memory, and hands on: its slots, units and roles. */
export class State {
  readonly fences: Fences;
  readonly roles: Roles;
  readonly #host: StateHost;
  readonly #slots: Slots;
  readonly #units = new Map<string, UnitRunner>();
  /** Older generations, which learn of kinds that are added. */
  readonly #served = new Set<Exchange>();
  #departure: Departure | undefined;

  constructor(fences: Fences, host: StateHost) {
    this.fences = fences;
    this.#host = host;
    this.roles = new Roles(fences);
    this.#slots = new Slots(fences, host.older);
  }

  slot<T>(label: string, shape: Shape<T>): Slot<T> {
    return this.#slots.open(label, shape);
  }

  /** @throws {HandoverError} `ERR_OPTION` */
  units<S, U>(name: string, definition: UnitDefinition<S, U>): Units<S, U> {
    readName("the kind of units", name);
    if (this.#units.has(name)) {
      throw new HandoverError("ERR_OPTION", `there are units of the kind "${name}" already`);
    }
    const kind = readKind(name, definition);
    const runner = new UnitRunner(kind, { ...this.#host, fences: this.fences });
    this.#units.set(name, runner);
    if (this.#departure !== undefined) runner.depart(this.#departure);
    for (const exchange of this.#served) this.#serveUnits(runner, exchange);
    return runner as Units<S, U>;
  }

  /** Takes what an older generation offers. */
  serve(exchange: Exchange): void {
    this.#served.add(exchange);
    this.#slots.serve(exchange);
    for (const runner of this.#units.values()) this.#serveUnits(runner, exchange);
  }

  /** Shows a successor what there is. */
  show(exchange: Exchange): void {
    this.#slots.show(exchange);
    exchange.show(KIND, { claim: (name, id) => this.#units.get(name)?.claim(id) ?? false });
  }

  /**
   * The process ends: what it holds moves to the successor where there is one, after `swept`.
   *
   * @param probation of the successor: false if this process serves again
   * @param timeout of the drain, in ms
   */
  depart(exchange: Exchange | undefined, probation: Promise<boolean>, timeout: number): Departure {
    const departure = new Departure(exchange, probation, timeout);
    this.#departure = departure;
    this.#slots.depart();
    for (const runner of this.#units.values()) runner.depart(departure);
    return departure;
  }

  /** Resolves when nothing is left here, with what became of the units. */
  async drain(departure: Departure, swept: Promise<unknown>): Promise<Record<string, DrainReport>> {
    await Promise.race([swept, departure.over]);
    if (departure.isUndone) return {};
    this.#slots.drain(departure);
    const reports = [...this.#units].map(async ([name, runner]) => [name, await runner.drain()] as const);
    return Object.fromEntries(await Promise.all(reports));
  }

  /** Resolves when nothing waits to be handed on any more. */
  async idle(departure: Departure): Promise<void> {
    await Promise.race([this.#slots.idle(departure), departure.over]);
  }

  /** The successor is dead: all is this process's again. */
  rollBack(): void {
    this.fences.leap();
    this.#departure?.undo();
    this.#departure = undefined;
    this.#slots.rollBack();
    for (const runner of this.#units.values()) void runner.rollBack();
  }

  #serveUnits(runner: UnitRunner, exchange: Exchange): void {
    exchange.serve(KIND, runner.kind.name, async (parcel, claim) => runner.take(parcel, claim));
  }
}
