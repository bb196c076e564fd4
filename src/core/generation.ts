import { Startup } from "./startup.js";
import type { Status } from "../control/protocol.js";
import type { Controlled, ControlServer } from "../control/server.js";
import { deferred } from "../util/deferred.js";
import type { DrainSummary, Rehearsal, Emit, UpgradeResult } from "../events.js";
import type { HandoverError } from "../errors.js";
import { createContext, type ProcessContext } from "./context.js";
import {
  transition,
  type Effect,
  type Event,
  type Outcome,
  type State,
  stateError,
  assertAcceptsNew,
} from "../lifecycle.js";
import type { Settings } from "../options.js";
import { forceExitAfter } from "../process/signals.js";
import { Shutdown } from "./shutdown.js";
import { statusOf } from "./process-status.js";
import { Upgrade } from "./upgrade.js";

/**
 * One process of the service: the owner of its state. Whatever happens goes through `#happen`, which asks the
 * table in lifecycle.ts, and runs the effects that come out.
 */
export class Generation implements Controlled {
  readonly estate: ProcessContext;
  /** Opened when this process gets ready. */
  control: ControlServer | undefined;
  readonly #accession: Startup;
  readonly #retirement: Shutdown;
  /** Keeps the event loop alive. */
  readonly #hold: NodeJS.Timeout;
  readonly #exit = deferred<Outcome>();
  #state: State = { name: "starting" };
  #succession: Upgrade | undefined;

  constructor(settings: Settings, tell: Emit) {
    this.estate = createContext(settings, {
      emit: tell,
      state: () => this.#state,
      dispatch: (event) => this.#happen(event),
      report: () => this.#retirement.report,
    });
    this.#hold = setInterval(() => {}, LONGEST);
    this.#retirement = new Shutdown(this.estate);
    this.#accession = new Startup(this.estate);
  }

  get state(): State {
    return this.#state;
  }

  get exit(): Promise<Outcome> {
    return this.#exit.promise;
  }

  /** Refuses what would come too late to be handed on. */
  requireOpen(doing: string): void {
    assertAcceptsNew(this.#state, doing);
  }

  async ready(): Promise<void> {
    this.requireOpen("get ready");
    const { settings, sockets, history: journal, pidFile } = this.estate;
    if (this.#state.name === "starting") pidFile?.prepare();
    try {
      const path = settings.controlSocket;
      if (this.control !== undefined && path !== undefined) await this.control.open(sockets, path);
    } catch (error) {
      pidFile?.discard();
      throw error;
    }
    await Promise.all([sockets.bound(), journal.restored]);
    this.#happen("ready");
    await this.#accession.accepted;
  }

  async upgrade(signal: AbortSignal | undefined): Promise<UpgradeResult> {
    if (process.pid === 1) throw stateError("ERR_PID_1", "upgrade");
    this.#happen("upgrade");
    const { history: journal, serviceManager: manager } = this.estate;
    const record = journal.begin();
    this.#succession = new Upgrade(this.estate, record);
    try {
      return await this.#succession.run(signal);
    } catch (error) {
      this.#succession = undefined;
      this.#happen("failed");
      journal.fail(record, "failed", error as HandoverError);
      manager.onEvent("failed", { error: error as HandoverError });
      throw error;
    }
  }

  async rehearse(signal: AbortSignal | undefined): Promise<Rehearsal> {
    if (process.pid === 1) throw stateError("ERR_PID_1", "rehearse an upgrade");
    this.#happen("upgrade");
    this.#succession = new Upgrade(this.estate);
    try {
      return await this.#succession.rehearse(signal);
    } finally {
      this.#succession = undefined;
      this.#happen("rehearsed");
    }
  }

  async stop(): Promise<void> {
    this.#happen("stop");
    await this.#exit.promise;
  }

  async stopAndDrain(): Promise<{ outcome: Outcome } & DrainSummary> {
    this.#happen("stop");
    return this.#retirement.over;
  }

  async status(): Promise<Status> {
    return statusOf(this.estate);
  }

  /** @throws {HandoverError} `ERR_...` of the table, if the event is refused */
  #happen(event: Event): void {
    const step = transition(this.#state, event);
    if (step.refused !== undefined) throw stateError(step.refused, event);
    this.#state = step.state;
    this.estate.serviceManager.onTransition(event, step.state);
    for (const effect of step.effects) this.#effects[effect]();
  }

  readonly #effects: Record<Effect, () => void> = {
    sendReady: () => this.#accession.announce(),
    accept: () => this.#accession.accept(),
    confirm: () => {
      const { inventory, predecessors: older, history: journal } = this.estate;
      inventory.forgetLender();
      older.sendConfirmed();
      journal.confirm();
    },
    killSuccessor: () => this.#succession?.abandon(),
    startHandover: () => this.#retirement.handOn(this.#succession!),
    confirmSuccessor: () => this.#succession?.settle(),
    rollBack: () => {
      const succession = this.#succession!;
      this.#succession = undefined;
      this.#retirement.rollBack(succession);
    },
    announceStop: () => {
      this.estate.predecessors.direct?.sendStopping();
      this.#succession?.announceStopping();
    },
    leavePredecessor: () => this.estate.predecessors.direct?.close(),
    drainAlone: () => {
      this.#accession.abandon(stateError("ERR_STOPPED", "get ready"));
      this.#retirement.close();
    },
    exit: () => void this.#leave(),
  };

  async #leave(): Promise<void> {
    const { outcome } = this.#state as State & { name: "exited" };
    await this.#retirement.leave(outcome);
    await this.control?.close(ANSWER_TIME);
    if (outcome === "stopped") await this.#outlive();
    clearInterval(this.#hold);
    this.#exit.resolve(outcome);
    forceExitAfter(this.estate.settings.exitTimeout);
  }

  /** Others may still drain, and are left as long as that may take. */
  async #outlive(): Promise<void> {
    const { settings, predecessors: older, serviceManager: manager } = this.estate;
    const { drainTimeout, exitTimeout } = settings;
    const successor = this.#succession?.gone;
    const others = [...(successor ? [successor] : []), ...older.alive.map(({ gone }) => gone)];
    await manager.waitForOthers(others, drainTimeout + exitTimeout);
  }
}

/** The longest time that a timer of Node takes. */
const LONGEST = 2 ** 31 - 1;

/** How long, in ms, clients of the control socket may take to read their answers. */
const ANSWER_TIME = 1_000;
