import type { Peer } from "../../exchange/parcel.js";
import { functionsOf, integer, milliseconds, refuseUnknown, wrongOption } from "../../util/validation.js";
import { HandoverError } from "../../errors.js";
import { resolveSchema, type ResolvedSchema, type StateSchema } from "../schema.js";

/** The definition of live things of one kind. Each runs in exactly one process. */
export interface UnitDefinition<State, Unit> extends StateSchema<State> {
  /**
   * Starts a unit, and returns the object that represents it in this process. When it returns, or its promise resolves, the
   * unit runs until `signal` aborts. `fence` is above that of every earlier run of the unit. To throw refuses the unit: its
   * owner keeps it.
   */
  run(id: string, state: State, context: RunContext): Unit | PromiseLike<Unit>;
  /** Ends a unit, and returns its state. `signal` aborts right after it. */
  freeze(id: string, unit: Unit): State | PromiseLike<State>;
  /**
   * Ends a frozen unit that no process has taken. `state` is undefined if `freeze` has failed. `fence` is above that of every
   * other process that has had the unit. Default: its `signal` aborts.
   */
  stop?(id: string, state: State | undefined, context: StopContext): unknown;
  /** Whether the unit may move. Synchronous. Default: every unit may. */
  eligible?(id: string, unit: Unit): boolean;
  /** The unit with the highest number moves first. Synchronous. Default 0, also for a value that is not a number. */
  priority?(id: string, unit: Unit): number;
  /**
   * In the process that would take the unit, before `run`: false refuses it. `age` is the time in ms since it was offered,
   * `from` the process that offers it. If it has read `age`, it is asked again as the unit grows older: a quarter of a second later,
   * then at twice the age, but every second at least, as long as the unit is on offer. Default: every unit is taken.
   */
  accept?(id: string, about: { age: number; from: Peer }): boolean | PromiseLike<boolean>;
  /**
   * Of the scope `"global"`: the state with which a unit continues here whose host has died, or undefined to drop it. Default:
   * such a unit ends; `start()` begins it anew.
   */
  recover?(id: string): State | undefined | PromiseLike<State | undefined>;
  /**
   * Of the scope `"global"`: why the sockets that are attached to a unit are closed when it runs on another host; `peer` is
   * there. At most 123 bytes. Default: the address of `peer`.
   */
  moved?(id: string, peer: Peer): string;
  /** Of the scope `"global"`: the number of units with which this process takes no more from other hosts. Default: no limit. */
  capacity?: number;
  /**
   * Where a unit runs once. `"host"`: in one worker of all that the supervisor has. `"process"`: in each worker that starts it.
   * Without a supervisor both mean the same. `"global"`: in one process of all hosts, by the option `exchange` of the
   * `Upgrader`. Default `"host"`.
   */
  scope?: UnitScope;
  /** The settings of the drain. */
  drain?: DrainOptions;
}

/** What `run` receives. */
export interface RunContext {
  /** Aborts when the unit no longer runs here. */
  signal: AbortSignal;
  /** Above that of every earlier run of the unit. */
  fence: number;
  /** Closes a client's WebSocket with the code 1012 when the unit runs on another host, and not before. */
  attach: (socket: AttachedSocket) => void;
}

/** What `stop` receives. */
export interface StopContext {
  /** Above that of every other process that has had the unit: not lower than that of its run here. */
  fence: number;
}

/** The members of a WebSocket that are used. */
export interface AttachedSocket {
  close(code: number, reason: string): void;
}

/** Where each unit of a kind runs once. */
type UnitScope = "process" | "host" | "global";

/** The settings of the drain of one kind. Times are in milliseconds. */
export interface DrainOptions {
  /** Whether units move at all; else every unit is stopped. Default true. */
  enabled?: boolean;
  /** For all units to move. Default 30 000; at most `drainTimeout` less two `unitTimeout`s, the time to stop units. */
  timeout?: number;
  /** For one unit to freeze and be taken; and for one unit to stop. Default 5 000. */
  unitTimeout?: number;
  /** The number of units that are on their way at a time. Default 50 to a successor; to other hosts what their engine needs. */
  concurrency?: number;
  /** The number of failures in a row after which the remaining units are stopped. Default 10. */
  giveUpAfter?: number;
}

export type DrainSettings = Required<Omit<DrainOptions, "concurrency">> & Pick<DrainOptions, "concurrency">;

/** A definition with its defaults. */
export interface UnitKind {
  readonly name: string;
  readonly schema: ResolvedSchema<unknown>;
  readonly definition: Omit<
    UnitDefinition<unknown, unknown>,
    keyof StateSchema<unknown> | "drain" | "scope" | "capacity"
  >;
  readonly scope: UnitScope;
  readonly capacity: number;
  readonly drainSettings: DrainSettings;
}

/** @throws {HandoverError} `ERR_OPTION` */
export function readKind(name: string, definition: UnitDefinition<unknown, unknown>): UnitKind {
  const own = [...REQUIRED, ...OPTIONAL, "drain", "scope", "capacity"];
  const scope = readScope(definition.scope);
  for (const member of ONLY_GLOBAL)
    if (definition[member] !== undefined && scope !== "global")
      throw new HandoverError(
        "ERR_OPTION",
        `units("${name}") has "${member}", which needs the scope "global"`,
      );
  const { capacity = Infinity } = definition;
  return {
    name,
    schema: resolveSchema(`units("${name}")`, definition, own),
    definition: functionsOf(definition, REQUIRED, OPTIONAL),
    scope,
    capacity: capacity === Infinity ? capacity : integer("capacity", capacity, 0, 1_000_000_000),
    drainSettings: readDrainSettings(definition.drain ?? {}, DEFAULTS),
  };
}

function readScope(value: unknown = "host"): UnitKind["scope"] {
  if (value === "process" || value === "host" || value === "global") return value;
  throw wrongOption("scope", '"process", "host" or "global"', value);
}

/** @throws {HandoverError} `ERR_OPTION` */
export function readDrainSettings(options: DrainOptions, defaults: DrainSettings): DrainSettings {
  refuseUnknown("drain", options, [...Object.keys(DEFAULTS), "concurrency"]);
  const {
    enabled = defaults.enabled,
    timeout = defaults.timeout,
    unitTimeout = defaults.unitTimeout,
    concurrency = defaults.concurrency,
    giveUpAfter = defaults.giveUpAfter,
  } = options;
  if (typeof enabled !== "boolean") throw wrongOption("enabled", "true or false", enabled);
  return {
    enabled,
    timeout: milliseconds("timeout", timeout, 0),
    unitTimeout: milliseconds("unitTimeout", unitTimeout, 1),
    ...(concurrency === undefined ? {} : { concurrency: integer("concurrency", concurrency, 1, 10_000) }),
    giveUpAfter: integer("giveUpAfter", giveUpAfter, 1, 1_000_000),
  };
}

const REQUIRED = ["run", "freeze"] as const;
const OPTIONAL = ["stop", "eligible", "priority", "accept", "recover", "moved"] as const;
const ONLY_GLOBAL = ["recover", "moved", "capacity"] as const;

const DEFAULTS: DrainSettings = {
  enabled: true,
  timeout: 30_000,
  unitTimeout: 5_000,
  giveUpAfter: 10,
};
