import { setImmediate as turn } from "node:timers/promises";
import { Accession } from "./accession.js";
import type { ConnectionAdapter } from "./connections/adapter.js";
import { Tracker } from "./connections/tracker.js";
import type { Status } from "./control/protocol.js";
import type { Controlled, ControlServer } from "./control/server.js";
import { deferred } from "./deferred.js";
import { Ending, type Ended } from "./ending.js";
import type { HandoverError } from "./errors.js";
import type { Estate } from "./estate.js";
import type { Rehearsal, Tell, UpgradeResult } from "./events.js";
import { busyWith, transition, type Effect, type Event, type Outcome, type State } from "./lifecycle.js";
import { Journal } from "./journal.js";
import { Fences } from "./handoff/fences.js";
import { State as Memory } from "./handoff/state.js";
import type { Settings } from "./options.js";
import { origin } from "./process/command.js";
import { endByForce } from "./process/force.js";
import { OlderGenerations } from "./process/older.js";
import { readInheritance } from "./process/parent.js";
import { PidFile } from "./process/pid-file.js";
import { refusal } from "./refusal.js";
import { statusOf } from "./status.js";
import { Inventory } from "./sockets/inventory.js";
import { Sockets } from "./sockets/sockets.js";
import { Succession } from "./succession.js";
import { takeActivation } from "./systemd/activation.js";
import { ServiceManager } from "./systemd/service-manager.js";
import { storeNames } from "./systemd/store.js";

/**
 * One process of the service: the owner of its state. Whatever happens goes through `#happen`, which asks the
 * table in lifecycle.ts, and runs the effects that come out.
 */
export class Generation implements Controlled {
  readonly number: number;
  readonly inventory: Inventory;
  readonly sockets: Sockets;
  readonly older: OlderGenerations;
  /** What it holds besides sockets and connections. */
  readonly memory: Memory;
  readonly journal: Journal;
  /** Opened when this process gets ready. */
  control: ControlServer | undefined;
  readonly #settings: Settings;
  readonly #tell: Tell;
  readonly #pidFile: PidFile | undefined;
  readonly #tracker = new Tracker();
  readonly #manager: ServiceManager;
  /** Keeps the event loop alive. */
  readonly #hold: NodeJS.Timeout;
  readonly #left = deferred<{ outcome: Outcome } & Ended>();
  readonly #exit = deferred<Outcome>();
  #state: State = { name: "starting" };
  readonly #estate: Estate;
  readonly #accession: Accession;
  #succession: Succession | undefined;
  #ending: Ending | undefined;
  #ended: Ended = { destroyed: 0, handedOver: 0, stayed: {}, units: {} };

  constructor(settings: Settings, tell: Tell) {
    const fences = new Fences();
    const inheritance = readInheritance(settings.upgradeTimeout, fences);
    this.#settings = settings;
    this.#pidFile = settings.pidFile === undefined ? undefined : new PidFile(settings.pidFile);
    this.number = inheritance?.generation ?? 0;
    const activation = inheritance === undefined ? takeActivation(process.env) : undefined;
    this.inventory = new Inventory(inheritance?.items ?? activation!.items);
    const stored = activation?.stored ?? storeNames(inheritance!.items);
    this.#manager = new ServiceManager(this.number, origin.env, stored, {
      connections: () => this.#tracker.size,
      used: () => this.inventory.used(),
      unused: () => this.inventory.inherited(),
      hasParent: () => this.older.parentPid !== undefined,
    });
    this.inventory.onChange = () => this.#manager.keepListeners();
    this.#tell = (event, payload) => {
      this.#manager.hear(event, payload);
      tell(event, payload);
    };
    this.older = new OlderGenerations(inheritance?.parent);
    this.sockets = new Sockets(this.inventory, this.#tracker, () => this.older.parentPid);
    this.memory = new Memory(fences, {
      older: () => this.older.alive.map(({ exchange }) => exchange),
      requireActive: (doing) => this.#requireActive(doing),
    });
    this.#hold = setInterval(() => {}, LONGEST);
    this.journal = new Journal(this.number, this.memory, (record) => this.#tell("recorded", record));
    const { number, inventory, sockets, older, memory, journal } = this;
    this.#estate = {
      number,
      settings,
      inventory,
      sockets,
      connections: this.#tracker,
      memory,
      journal,
      older,
      pidFile: this.#pidFile,
      tell: this.#tell,
      state: () => this.#state,
      happen: (event) => this.#happen(event),
      report: () => ({
        connections: this.#tracker.size,
        handedOver: this.#ending?.handedOver ?? 0,
        remaining: this.#ending?.remaining ?? 0,
      }),
    };
    this.#accession = new Accession(this.#estate);
  }

  get state(): State {
    return this.#state;
  }

  get exit(): Promise<Outcome> {
    return this.#exit.promise;
  }

  get connections(): number {
    return this.#tracker.size;
  }

  /** Refuses what would come too late to be handed on. */
  requireOpen(doing: string): void {
    const busy = busyWith(this.#state);
    if (busy !== undefined) throw refusal(busy, doing);
  }

  /** Refuses what would run here and in the predecessor. */
  #requireActive(doing: string): void {
    const { name } = this.#state;
    if (name === "upgrading") return;
    this.requireOpen(doing);
    const isWaiting = name === "starting" || name === "announced";
    if (isWaiting && this.older.parentPid !== undefined) throw refusal("ERR_NOT_READY", doing);
  }

  addAdapter(adapter: ConnectionAdapter): void {
    this.#tracker.addAdapter(adapter);
  }

  async ready(): Promise<void> {
    this.requireOpen("get ready");
    if (this.#state.name === "starting") this.#pidFile?.prepare();
    try {
      const path = this.#settings.controlSocket;
      if (this.control !== undefined && path !== undefined) await this.control.open(this.sockets, path);
    } catch (error) {
      this.#pidFile?.discard();
      throw error;
    }
    await Promise.all([this.sockets.settled(), this.journal.warm]);
    this.#happen("ready");
    await this.#accession.accepted;
  }

  async upgrade(signal: AbortSignal | undefined): Promise<UpgradeResult> {
    if (process.pid === 1) throw refusal("ERR_PID_1", "upgrade");
    this.#happen("upgrade");
    const record = this.journal.begin();
    this.#succession = new Succession(this.#estate, record);
    try {
      return await this.#succession.run(signal);
    } catch (error) {
      this.#succession = undefined;
      this.#happen("failed");
      this.journal.fail(record, "failed", error as HandoverError);
      this.#manager.hear("failed", { error: error as HandoverError });
      throw error;
    }
  }

  async rehearse(signal: AbortSignal | undefined): Promise<Rehearsal> {
    if (process.pid === 1) throw refusal("ERR_PID_1", "rehearse an upgrade");
    this.#happen("upgrade");
    this.#succession = new Succession(this.#estate);
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

  async stopAndDrain(): Promise<{ outcome: Outcome; destroyed: number }> {
    this.#happen("stop");
    return this.#left.promise;
  }

  async status(): Promise<Status> {
    return statusOf(this.#estate);
  }

  /** @throws {HandoverError} `ERR_...` of the table, if the event is refused */
  #happen(event: Event): void {
    const step = transition(this.#state, event);
    if (step.refused !== undefined) throw refusal(step.refused, event);
    this.#state = step.state;
    this.#manager.follow(event, step.state);
    for (const effect of step.effects) this.#effects[effect]();
  }

  readonly #effects: Record<Effect, () => void> = {
    announce: () => this.#accession.announce(),
    accept: () => this.#accession.accept(),
    keep: () => {
      this.inventory.keep();
      this.older.keep();
      this.journal.keep();
    },
    abandon: () => this.#succession?.abandon(),
    handOn: () => this.#handOn(),
    settle: () => this.#succession?.settle(),
    rollBack: () => this.#rollBack(),
    warnPeer: () => {
      this.older.parent?.announceStopping();
      this.#succession?.announceStopping();
    },
    withdraw: () => this.older.parent?.leave(),
    close: () => this.#close(),
    leave: () => void this.#leave(),
  };

  #handOn(): void {
    const succession = this.#succession!;
    this.sockets.stop();
    succession.announce();
    this.#end(succession);
    succession.beginProbation();
  }

  #rollBack(): void {
    this.#ending?.cancel();
    this.#ending = undefined;
    this.memory.rollBack();
    this.#succession?.rollBack();
    this.#succession = undefined;
    void this.memory.roles.acquireAll().then((errors) => {
      for (const error of errors) this.#tell("failed", { error });
    });
  }

  #close(): void {
    this.#accession.abandon(refusal("ERR_STOPPED", "get ready"));
    this.#pidFile?.discard();
    this.sockets.stop();
    this.sockets.letGo();
    // A client that nobody will serve is refused at once, and does not wait in a queue to be reset.
    this.inventory.closeUsed(new Set());
    this.#end();
  }

  #end(succession?: Succession): void {
    const timeout = this.#settings.drainTimeout;
    const connections = this.#tracker.size;
    const ending = new Ending(this.#tracker, this.memory, {
      exchange: succession?.exchange,
      probation: succession?.kept ?? Promise.resolve(true),
      timeout,
      begin: () => this.#tell("draining", { connections, timeout }),
      report: async (ended) => this.journal.end(connections, ended),
      failed: (error) => this.#tell("failed", { error }),
    });
    this.#ending = ending;
    void ending.done.then((ended) => {
      // A rollback has ended the end.
      if (this.#ending !== ending) return;
      this.#ended = ended;
      this.#happen("drained");
    });
  }

  async #leave(): Promise<void> {
    const { outcome } = this.#state as State & { name: "exited" };
    this.sockets.end();
    this.#tracker.close();
    // The servers emit `close` in the next tick.
    await turn();
    if (outcome === "stopped") this.#pidFile?.remove();
    this.#tell("exit", { outcome, ...this.#ended });
    this.#left.resolve({ outcome, ...this.#ended });
    await this.control?.close(ANSWER_TIME);
    if (outcome === "stopped") await this.#outlive();
    clearInterval(this.#hold);
    this.#exit.resolve(outcome);
    endByForce(this.#settings.exitTimeout);
  }

  /** Others may still drain, and are left as long as that may take. */
  async #outlive(): Promise<void> {
    const { drainTimeout, exitTimeout } = this.#settings;
    const successor = this.#succession?.gone;
    const others = [...(successor ? [successor] : []), ...this.older.alive.map(({ gone }) => gone)];
    await this.#manager.outlive(others, drainTimeout + exitTimeout);
  }
}

/** The longest time that a timer of Node takes. */
const LONGEST = 2 ** 31 - 1;

/** How long, in ms, clients of the control socket may take to read their answers. */
const ANSWER_TIME = 1_000;
