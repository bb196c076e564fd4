import { functionsOf, integer, milliseconds, refuseUnknown, wrongOption } from "../../util/validation.js";
import { resolveSchema, type ResolvedSchema, type StateSchema } from "../schema.js";

/** The definition of live things of one kind. Each runs in exactly one process. */
export interface UnitDefinition<State, Unit> extends StateSchema<State> {
  /**
   * Starts a unit, and returns the object that represents it in this process. When it returns, or its promise resolves, the
   * unit runs until `signal` aborts. `fence` is above that of every earlier run of the unit. To throw refuses the unit: its
   * owner keeps it.
   */
  run(id: string, state: State, context: { signal: AbortSignal; fence: number }): Unit | PromiseLike<Unit>;
  /** Ends a unit, and returns its state. `signal` aborts right after it. */
  freeze(id: string, unit: Unit): State | PromiseLike<State>;
  /**
   * Ends a frozen unit that no process has taken. `state` is undefined if `freeze` has failed. Default: its `signal`
   * aborts.
   */
  stop?(id: string, state: State | undefined): unknown;
  /** Whether the unit may move. Synchronous. Default: every unit may. */
  eligible?(id: string, unit: Unit): boolean;
  /** The unit with the highest number moves first. Synchronous. Default 0, also for a value that is not a number. */
  priority?(id: string, unit: Unit): number;
  /** In the successor, before `run`: false refuses the unit. Default: every unit is taken. */
  accept?(id: string): boolean | PromiseLike<boolean>;
  /**
   * Where a unit runs once. `"host"`: in one worker of all that the supervisor has. `"process"`: in each worker that starts it.
   * Without a supervisor both mean the same. Default `"host"`.
   */
  scope?: "process" | "host";
  /** The settings of the drain. */
  drain?: DrainOptions;
}

/** The settings of the drain of one kind. Times are in milliseconds. */
export interface DrainOptions {
  /** Whether units move at all; else every unit is stopped. Default true. */
  enabled?: boolean;
  /** For all units to move. Default 30 000; at most `drainTimeout` less two `unitTimeout`s, the time to stop units. */
  timeout?: number;
  /** For one unit to freeze and be taken; and for one unit to stop. Default 5 000. */
  unitTimeout?: number;
  /** The number of units that are on their way at a time. Default 50. */
  concurrency?: number;
  /** The number of failures in a row after which the remaining units are stopped. Default 10. */
  giveUpAfter?: number;
}

export type DrainSettings = Required<DrainOptions>;

/** A definition with its defaults. */
export interface UnitKind {
  readonly name: string;
  readonly schema: ResolvedSchema<unknown>;
  readonly definition: Omit<UnitDefinition<unknown, unknown>, keyof StateSchema<unknown> | "drain" | "scope">;
  readonly scope: "process" | "host";
  readonly drainSettings: DrainSettings;
}

/** @throws {HandoverError} `ERR_OPTION` */
export function readKind(name: string, definition: UnitDefinition<unknown, unknown>): UnitKind {
  const own = [...REQUIRED, ...OPTIONAL, "drain", "scope"];
  return {
    name,
    schema: resolveSchema(`units("${name}")`, definition, own),
    definition: functionsOf(definition, REQUIRED, OPTIONAL),
    scope: readScope(definition.scope),
    drainSettings: readDrainSettings(definition.drain ?? {}, DEFAULTS),
  };
}

function readScope(value: unknown = "host"): UnitKind["scope"] {
  if (value !== "process" && value !== "host") throw wrongOption("scope", '"process" or "host"', value);
  return value;
}

/** @throws {HandoverError} `ERR_OPTION` */
export function readDrainSettings(options: DrainOptions, defaults: DrainSettings): DrainSettings {
  refuseUnknown("drain", options, Object.keys(DEFAULTS));
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
    concurrency: integer("concurrency", concurrency, 1, 10_000),
    giveUpAfter: integer("giveUpAfter", giveUpAfter, 1, 1_000_000),
  };
}

const REQUIRED = ["run", "freeze"] as const;
const OPTIONAL = ["stop", "eligible", "priority", "accept"] as const;

const DEFAULTS: DrainSettings = {
  enabled: true,
  timeout: 30_000,
  unitTimeout: 5_000,
  concurrency: 50,
  giveUpAfter: 10,
};
