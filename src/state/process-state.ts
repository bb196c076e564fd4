import { HandoverError } from "../errors.js";
import type { DrainContext } from "../exchange/drain-context.js";
import { requireProgramName, type StateSchema } from "./schema.js";
import type { Exchange } from "../exchange/exchange.js";
import { FencingTokens } from "../exchange/fencing.js";
import { UNIT_KIND } from "./units/unit.js";
import { Roles } from "./roles.js";
import { Slots, type Slot } from "./slots/slots.js";
import { readKind, type UnitDefinition } from "./units/definition.js";
import type { DrainReport } from "../events.js";
import { UnitRegistry, type Units } from "./units/units.js";

/** What state needs of its process. */
interface StateHost {
  /** What leads to the generations before, while they live: the parent first. */
  readonly predecessors: () => readonly Exchange[];
  /** @throws {HandoverError} where no unit can be started yet, or any more */
  readonly assertMayRun: (doing: string) => void;
}

/** What a process holds in memory, and hands on: its slots, units and roles. */
export class ProcessState {
  readonly fences: FencingTokens;
  readonly roles: Roles;
  readonly #host: StateHost;
  readonly #slots: Slots;
  readonly #units = new Map<string, UnitRegistry>();
  /** Older generations, which learn of kinds that are added. */
  readonly #subscribed = new Set<Exchange>();
  #context: DrainContext | undefined;

  constructor(fences: FencingTokens, host: StateHost) {
    this.fences = fences;
    this.#host = host;
    this.roles = new Roles(fences);
    this.#slots = new Slots(fences, host.predecessors);
  }

  /**
   * Opens a slot for the program.
   *
   * @throws {HandoverError} `ERR_OPTION`
   */
  slot<T>(label: string, schema: StateSchema<T>): Slot<T> {
    requireProgramName("the label of a slot", label);
    return this.#slots.open(label, schema);
  }

  /** Opens a slot of the library itself, whose label begins with `handover:`. */
  ownSlot<T>(label: `handover:${string}`, schema: StateSchema<T>): Slot<T> {
    return this.#slots.open(label, schema);
  }

  /** @throws {HandoverError} `ERR_OPTION` */
  units<S, U>(name: string, definition: UnitDefinition<S, U>): Units<S, U> {
    requireProgramName("the kind of units", name);
    if (this.#units.has(name)) {
      throw new HandoverError("ERR_OPTION", `there are units of the kind "${name}" already`);
    }
    const kind = readKind(name, definition);
    const runner = new UnitRegistry(kind, { ...this.#host, fencing: this.fences });
    this.#units.set(name, runner);
    if (this.#context !== undefined) runner.beginDrain(this.#context);
    for (const exchange of this.#subscribed) this.#serveUnits(runner, exchange);
    return runner as Units<S, U>;
  }

  /** Takes what an older generation offers. */
  subscribeTo(exchange: Exchange): void {
    this.#subscribed.add(exchange);
    this.#slots.subscribeTo(exchange);
    for (const runner of this.#units.values()) this.#serveUnits(runner, exchange);
  }

  /** Shows a successor what there is. */
  answerQueriesOf(exchange: Exchange): void {
    this.#slots.answerQueriesOf(exchange);
    exchange.onQuery(UNIT_KIND, { expedite: (name, id) => this.#units.get(name)?.expedite(id) ?? false });
  }

  /** The process ends: what it holds moves to the successor where there is one, when {@link drain} is called. */
  beginDrain(context: DrainContext): void {
    this.#context = context;
    this.#slots.beginDrain();
    for (const runner of this.#units.values()) runner.beginDrain(context);
  }

  /** Resolves when nothing is left here, with what became of the units. */
  async drain(context: DrainContext, swept: Promise<unknown>): Promise<Record<string, DrainReport>> {
    await Promise.race([swept, context.over]);
    if (context.isRolledBack) return {};
    this.#slots.drain(context);
    const reports = [...this.#units].map(async ([name, runner]) => [name, await runner.drain()] as const);
    return Object.fromEntries(await Promise.all(reports));
  }

  /** Resolves when nothing waits to be handed on any more. */
  async whenEmpty(context: DrainContext): Promise<void> {
    await Promise.race([this.#slots.whenEmpty(context), context.over]);
  }

  /** The successor is dead: all is this process's again. */
  rollBack(): void {
    this.fences.skipAhead();
    this.#context?.rollBack();
    this.#context = undefined;
    this.#slots.rollBack();
    for (const runner of this.#units.values()) void runner.rollBack();
  }

  #serveUnits(runner: UnitRegistry, exchange: Exchange): void {
    exchange.subscribe(UNIT_KIND, runner.kind.name, async (parcel, delivery) =>
      runner.take(parcel, delivery),
    );
  }
}
