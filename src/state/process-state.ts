import { HandoverError, type UnitOwner } from "../errors.js";
import type { DrainReport } from "../events.js";
import type { Directory } from "../exchange/directory.js";
import type { DrainContext } from "../exchange/drain-context.js";
import type { Exchange } from "../exchange/exchange.js";
import type { FencingTokens } from "../exchange/fencing.js";
import type { Hosts, StateHosts } from "../exchange/hosts.js";
import { Roles } from "./roles.js";
import { requireProgramName, type StateSchema } from "./schema.js";
import { Slots, type Slot, type SlotDefinition, type SlotHost } from "./slots/slots.js";
import { UNIT_KIND } from "./units/live-unit.js";
import { readKind, type UnitDefinition } from "./units/unit-definition.js";
import { UnitRegistry } from "./units/unit-registry.js";
import type { UnitHost, Units } from "./units/units.js";

/** The process that the state is part of. */
interface StateHost {
  readonly self: UnitOwner;
  /** Of the units of all workers; undefined without a supervisor. */
  readonly directory: Directory | undefined;
  /** The other hosts; undefined without the option `exchange`. */
  readonly hosts?: Hosts | undefined;
  /** Whether this process is never one of several: the scope `"global"` then means no more than `"host"`. */
  readonly isAlone?: boolean;
  /** The exchanges to the predecessors that live, the direct one first. */
  readonly predecessors: () => readonly Exchange[];
  /** Whether this process was replaced or stopped. Its drain may begin later, when the successor has acknowledged. */
  readonly isLeaving: () => boolean;
  /** @throws {HandoverError} where no unit can be started yet, or any longer */
  readonly assertMayRun: (doing: string, needsHosts: boolean) => void;
}

/** The state that a process holds in memory: its slots, units and roles. Slots and units read its drain here. */
export class ProcessState implements SlotHost, UnitHost {
  readonly fences: FencingTokens;
  readonly self: UnitOwner;
  readonly directory: Directory | undefined;
  readonly hosts: StateHosts | undefined;
  readonly roles: Roles;
  readonly predecessors: StateHost["predecessors"];
  readonly assertMayRun: StateHost["assertMayRun"];
  readonly #isLeaving: StateHost["isLeaving"];
  /** The other hosts, also those that share no more than roles. */
  readonly #hosts: Hosts | undefined;
  readonly #isAlone: boolean;
  #openedSlots: Slots | undefined;
  readonly #units = new Map<string, UnitRegistry>();
  /** The exchanges to predecessors. They learn of kinds that are added later. */
  readonly #subscribed = new Set<Exchange>();
  #drainContext: DrainContext | undefined;
  /** Connections move first. Slots move afterwards. */
  #areSlotsMoving = false;

  constructor(fences: FencingTokens, { self, directory, hosts, isAlone, ...host }: StateHost) {
    this.self = self;
    this.directory = directory;
    this.hosts = hosts?.state;
    this.#hosts = hosts;
    this.#isAlone = isAlone === true;
    this.fences = fences;
    this.predecessors = host.predecessors;
    this.#isLeaving = host.isLeaving;
    this.assertMayRun = host.assertMayRun;
    this.roles = new Roles(fences, hosts, (doing) => this.#requireHosts(doing, hosts));
  }

  /** Made at their first use, as most starts need none. */
  get #slots(): Slots {
    return (this.#openedSlots ??= new Slots(this));
  }

  get isLeaving(): boolean {
    return this.#drainContext !== undefined || this.#isLeaving();
  }

  get drainContext(): DrainContext | undefined {
    return this.#drainContext;
  }

  get slotDrain(): DrainContext | undefined {
    return this.#areSlotsMoving ? this.#drainContext : undefined;
  }

  /**
   * Opens a slot for the program.
   *
   * @throws {HandoverError} `ERR_OPTION`
   */
  slot<T>(label: string, schema: SlotDefinition<T>): Slot<T> {
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
    if (kind.scope === "global") this.requireHosts(`have units of the kind "${name}"`);
    const units = new UnitRegistry(kind, this);
    this.#units.set(name, units);
    for (const exchange of this.#subscribed) units.subscribeTo(exchange);
    return units as Units<S, U>;
  }

  /**
   * Requires hosts between which state moves.
   *
   * @throws {HandoverError} `ERR_OPTION` for the scope `"global"` without them
   */
  requireHosts(doing: string): void {
    this.#requireHosts(doing, this.hosts);
  }

  #requireHosts(doing: string, hosts: Hosts | undefined): void {
    if (hosts !== undefined || this.#isAlone) return;
    const why =
      this.#hosts === undefined
        ? 'the scope "global" needs the option "exchange" of new Upgrader()'
        : `the engine ${this.#hosts.engine} has roles only; units and slots with the scope "global" need one that keeps state, as postgres()`;
    throw new HandoverError("ERR_OPTION", `cannot ${doing}: ${why}`);
  }

  /** Takes the slots and units that a predecessor offers. */
  subscribeTo(exchange: Exchange): void {
    this.#hosts?.subscribeTo(exchange);
    this.#subscribed.add(exchange);
    this.#slots.subscribeTo(exchange);
    for (const units of this.#units.values()) units.subscribeTo(exchange);
  }

  /** Answers what a successor asks about the slots and units of this process. */
  answerQueriesOf(exchange: Exchange): void {
    this.#slots.answerQueriesOf(exchange);
    exchange.onQuery(UNIT_KIND, { expedite: (name, id) => this.#units.get(name)?.expedite(id) ?? false });
  }

  /** Begins the drain: this process takes no state any longer. Its own moves when {@link drain} is called. */
  beginDrain(context: DrainContext): void {
    this.#drainContext = context;
  }

  /**
   * Moves slots and units to the successor as soon as the idle connections have moved, and stops the units that it does
   * not take. Resolves with the reports of the units, by kind.
   *
   * @param swept resolves when the idle connections have moved
   */
  async drain(context: DrainContext, swept: Promise<unknown>): Promise<Record<string, DrainReport>> {
    await Promise.race([swept, context.over]);
    if (context.isRolledBack) return {};
    this.#areSlotsMoving = true;
    this.#slots.drain();
    const reports = [...this.#units].map(async ([name, units]) => [name, await units.drain()] as const);
    return Object.fromEntries(await Promise.all(reports));
  }

  /** Whether this process has drained, except that a rollback would bring back the state that the successor has taken. */
  get isDrained(): boolean {
    const units = [...this.#units.values()];
    return this.#areSlotsMoving && this.#slots.isDrained && units.every((one) => one.isDrained);
  }

  /** Resolves when every slot is settled, or the drain is over. */
  async whenEmpty(context: DrainContext): Promise<void> {
    await Promise.race([this.#slots.whenEmpty(context), context.over]);
  }

  /** The successor is dead: all slots and units are this process's again. */
  rollBack(): void {
    // A supervisor has given a fence that is above those of the successor. Another worker would fall behind this leap.
    if (this.directory === undefined) this.fences.skipAhead();
    this.#drainContext?.rollBack();
    this.#drainContext = undefined;
    this.#areSlotsMoving = false;
    this.#slots.rollBack();
    for (const units of this.#units.values()) units.rollBack();
  }
}
