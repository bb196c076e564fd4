import type { UnitOwner } from "../../errors.js";
import type { DrainReport } from "../../events.js";
import type { Directory } from "../../exchange/directory.js";
import type { DrainContext } from "../../exchange/drain-context.js";
import type { Exchange } from "../../exchange/exchange.js";
import type { FencingTokens } from "../../exchange/fencing.js";
import type { StateHosts } from "../../exchange/hosts.js";
import type { DrainOptions } from "./unit-definition.js";

/** The units of one kind that run in this process. */
export interface Units<State, Unit> {
  /**
   * The unit of this name: the one that runs here, else the one that arrives from a predecessor, else a new one with the
   * state `initial`.
   *
   * @throws {HandoverError} `ERR_NOT_READY` in a successor that does not accept yet, and of units of all hosts in any process; `ERR_ALREADY_UPGRADED` and
   *   `ERR_STOPPED` in a process that drains; `ERR_ELSEWHERE` if another worker has the unit, which is the error's `owner`;
   *   `ERR_UNIT` if a predecessor does not release the unit in time, or the supervisor does not answer. And the exception of
   *   `run`
   */
  start(id: string, initial: State): Promise<Unit>;
  /** For a unit that has ended by itself: its `signal` aborts, and it does not move. False if it does not run here. */
  release(id: string): boolean;
  get(id: string): Unit | undefined;
  /**
   * The process that has the unit, as far as is known; undefined if there is none.
   *
   * @throws {HandoverError} `ERR_STOPPED` if the supervisor is gone
   */
  where(id: string): Promise<UnitOwner | undefined>;
  /** The number of units that run here. */
  readonly size: number;
  /** Moves or stops all units. An upgrade and a stop call it. The first call decides the options. */
  drain(options?: DrainOptions): Promise<DrainReport>;
}

/** The process that the units are part of. */
export interface UnitHost {
  readonly self: UnitOwner;
  /** Of the units of all workers; undefined without a supervisor. */
  readonly directory: Directory | undefined;
  readonly fences: FencingTokens;
  /** The other hosts; undefined if there are none. */
  readonly hosts: StateHosts | undefined;
  /** The exchanges to the predecessors that live. */
  readonly predecessors: () => readonly Exchange[];
  /** @throws {HandoverError} where no unit can be started yet, or any longer */
  readonly assertMayRun: (doing: string, needsHosts: boolean) => void;
  /** The drain of the process, until a rollback. */
  readonly drainContext: DrainContext | undefined;
}
