import { functionsOf, integer, milliseconds, refuseUnknown, wrongOption } from "../../util/validation.js";
import { resolveSchema, type ResolvedSchema, type StateSchema } from "../schema.js";

/** Live things of one kind, each of which runs in exactly one process. */
export interface UnitDefinition<State, Unit> extends StateSchema<State> {
  /**
   * Begins a unit, and returns what stands for it here. When it returns (or what it returns resolves) the unit runs; what
   * goes on afterwards ends when `signal` aborts. `fence` is above that of every run of this unit before. To throw
   * refuses the unit: it stays where it was.
   */
  run(id: string, state: State, context: { signal: AbortSignal; fence: number }): Unit | PromiseLike<Unit>;
  /** Ends a unit, and returns its state. `signal` aborts right after. */
  freeze(id: string, unit: Unit): State | PromiseLike<State>;
  /**
   * The ordinary end of a unit that nobody has taken, already frozen; `state` is undefined if `freeze` has failed.
   * Default: its `signal` aborts.
   */
  stop?(id: string, state: State | undefined): unknown;
  /** Whether it may move, at once. Default: all may. */
  eligible?(id: string, unit: Unit): boolean;
  /** The highest first, at once. Default 0, also for what is no number. */
  priority?(id: string, unit: Unit): number;
  /** In the process that would take it, before `run`: false refuses. Default: all are taken. */
  accept?(id: string): boolean | PromiseLike<boolean>;
  /** How they are moved. */
  drain?: DrainOptions;
}

/** Times are in milliseconds. */
export interface DrainOptions {
  /** Whether they move at all; else all are stopped. Default true. */
  enabled?: boolean;
  /** For all to move. Default 30 000, and at most what `drainTimeout` leaves for stopping. */
  timeout?: number;
  /** For one to freeze and be taken; and for one to stop. Default 5 000. */
  unitTimeout?: number;
  /** How many are on their way at a time. Default 50. */
  concurrency?: number;
  /** How many may fail one after the other before the rest is stopped. Default 10. */
  giveUpAfter?: number;
}

export type DrainSettings = Required<DrainOptions>;

/** A definition with its defaults. */
export interface UnitKind {
  readonly name: string;
  readonly schema: ResolvedSchema<unknown>;
  readonly definition: Omit<UnitDefinition<unknown, unknown>, keyof StateSchema<unknown> | "drain">;
  readonly drainSettings: DrainSettings;
}

/** @throws {HandoverError} `ERR_OPTION` */
export function readKind(name: string, definition: UnitDefinition<unknown, unknown>): UnitKind {
  const own = [...REQUIRED, ...OPTIONAL, "drain"];
  return {
    name,
    schema: resolveSchema(`units("${name}")`, definition, own),
    definition: functionsOf(definition, REQUIRED, OPTIONAL),
    drainSettings: readDrainSettings(definition.drain ?? {}, DEFAULTS),
  };
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
