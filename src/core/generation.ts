import { Accession } from "./startup.js";
import type { Status } from "../control/protocol.js";
import type { Controlled, ControlServer } from "../control/server.js";
import { deferred } from "../util/deferred.js";
import type { Ended } from "./ending.js";
import type { HandoverError } from "../errors.js";
import { inherit, type Estate } from "./context.js";
import type { Rehearsal, Tell, UpgradeResult } from "../events.js";
import { transition, type Effect, type Event, type Outcome, type State } from "../lifecycle.js";
import type { Settings } from "../options.js";
import { endByForce } from "../process/force.js";
import { refusal, requireOpen } from "../refusal.js";
import { Retirement } from "./shutdown.js";
import { statusOf } from "./process-status.js";
import { Succession } from "./upgrade.js";

/**
 * One process of the service: the owner of its state. Whatever happens goes through `#happen`, which asks the
 * table in lifecycle.ts, and runs the effects that come out.
 */
export class Generation implements Controlled {
  readonly estate: Estate;
  /** Opened when this process gets ready. */
  control: ControlServer | undefined;
  readonly #accession: Accession;
  readonly #retirement: Retirement;
  /** Keeps the event loop alive. */
  readonly #hold: NodeJS.Timeout;
  readonly #exit = deferred<Outcome>();
  #state: State = { name: "starting" };
  #succession: Succession | undefined;

  constructor(settings: Settings, tell: Tell) {
    this.estate = inherit(settings, {
      tell,
      state: () => this.#state,
      happen: (event) => this.#happen(event),
      report: () => this.#retirement.report,
    });
    this.#hold = setInterval(() => {}, LONGEST);
    this.#retirement = new Retirement(this.estate);
    this.#accession = new Accession(this.estate);
  }

  get state(): State {
    return this.#state;
  }

  get exit(): Promise<Outcome> {
    return this.#exit.promise;
  }

  /** Refuses what would come too late to be handed on. */
  requireOpen(doing: string): void {
    requireOpen(this.#state, doing);
  }

  async ready(): Promise<void> {
    this.requireOpen("get ready");
    const { settings, sockets, journal, pidFile } = this.estate;
    if (this.#state.name === "starting") pidFile?.prepare();
    try {
      const path = settings.controlSocket;
      if (this.control !== undefined && path !== undefined) await this.control.open(sockets, path);
    } catch (error) {
      pidFile?.discard();
      throw error;
    }
    await Promise.all([sockets.settled(), journal.warm]);
    this.#happen("ready");
    await this.#accession.accepted;
  }

  async upgrade(signal: AbortSignal | undefined): Promise<UpgradeResult> {
    if (process.pid === 1) throw refusal("ERR_PID_1", "upgrade");
    this.#happen("upgrade");
    const { journal, manager } = this.estate;
    const record = journal.begin();
    this.#succession = new Succession(this.estate, record);
    try {
      return await this.#succession.run(signal);
    } catch (error) {
      this.#succession = undefined;
      this.#happen("failed");
      journal.fail(record, "failed", error as HandoverError);
      manager.hear("failed", { error: error as HandoverError });
      throw error;
    }
  }

  async rehearse(signal: AbortSignal | undefined): Promise<Rehearsal> {
    if (process.pid === 1) throw refusal("ERR_PID_1", "rehearse an upgrade");
    this.#happen("upgrade");
    this.#succession = new Succession(this.estate);
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

  async stopAndDrain(): Promise<{ outcome: Outcome } & Ended> {
    this.#happen("stop");
    return this.#retirement.over;
  }

  async status(): Promise<Status> {
    return statusOf(this.estate);
  }

  /** @throws {HandoverError} `ERR_...` of the table, if the event is refused */
  #happen(event: Event): void {
    const step = transition(this.#state, event);
    if (step.refused !== undefined) throw refusal(step.refused, event);
    this.#state = step.state;
    this.estate.manager.follow(event, step.state);
    for (const effect of step.effects) this.#effects[effect]();
  }

  readonly #effects: Record<Effect, () => void> = {
    announce: () => this.#accession.announce(),
    accept: () => this.#accession.accept(),
    keep: () => {
      const { inventory, older, journal } = this.estate;
      inventory.keep();
      older.keep();
      journal.keep();
    },
    abandon: () => this.#succession?.abandon(),
    handOn: () => this.#retirement.handOn(this.#succession!),
    settle: () => this.#succession?.settle(),
    rollBack: () => {
      const succession = this.#succession!;
      this.#succession = undefined;
      this.#retirement.rollBack(succession);
    },
    warnPeer: () => {
      this.estate.older.parent?.announceStopping();
      this.#succession?.announceStopping();
    },
    withdraw: () => this.estate.older.parent?.leave(),
    close: () => {
      this.#accession.abandon(refusal("ERR_STOPPED", "get ready"));
      this.#retirement.close();
    },
    leave: () => void this.#leave(),
  };

  async #leave(): Promise<void> {
    const { outcome } = this.#state as State & { name: "exited" };
    await this.#retirement.leave(outcome);
    await this.control?.close(ANSWER_TIME);
    if (outcome === "stopped") await this.#outlive();
    clearInterval(this.#hold);
    this.#exit.resolve(outcome);
    endByForce(this.estate.settings.exitTimeout);
  }

  /** Others may still drain, and are left as long as that may take. */
  async #outlive(): Promise<void> {
    const { settings, older, manager } = this.estate;
    const { drainTimeout, exitTimeout } = settings;
    const successor = this.#succession?.gone;
    const others = [...(successor ? [successor] : []), ...older.alive.map(({ gone }) => gone)];
    await manager.outlive(others, drainTimeout + exitTimeout);
  }
}

/** The longest time that a timer of Node takes. */
const LONGEST = 2 ** 31 - 1;

/** How long, in ms, clients of the control socket may take to read their answers. */
const ANSWER_TIME = 1_000;
