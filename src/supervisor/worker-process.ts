import type { Message, Peer, WorkerHosts, WorkerPlace } from "../channel/messages.js";
import type { Departure } from "../events.js";
import { HandoverError, type ErrorCode } from "../errors.js";
import type { EngineReport } from "../exchange/hosts.js";
import type { Command } from "../process/command.js";
import type { Env } from "../process/env.js";
import { DOUBTFUL_SILENCE, HeartbeatWatch } from "../process/heartbeat.js";
import { SUPERVISED_CAPABILITY, type Legacy } from "../process/inheritance.js";
import { adoptSuccessor, startSuccessor } from "../process/start-successor.js";
import type { Successor, SuccessorListener, SuccessorState } from "../process/successor.js";
import { deferred } from "../util/deferred.js";
import { VERSION } from "../util/version.js";
import { Question } from "./question.js";
import { WorkerReports, type ReportListener, type ReportsState } from "./worker-reports.js";

/** What the supervisor learns from a worker. */
export interface WorkerListener extends ReportListener<WorkerProcess> {
  /** Resolves when a worker that is ready may accept; stays pending if it was killed instead. */
  admit(worker: WorkerProcess): Promise<void>;
  /** It is ready, and may accept; comes again when it takes more descriptors into use, and when it is asked to wait. */
  ready(worker: WorkerProcess): void;
  /** It accepts. */
  acknowledged(worker: WorkerProcess): void;
  /** The length of its silence, in ms, several times a second. */
  silent(worker: WorkerProcess, silence: number): void;
  /** No process of it is left. */
  gone(worker: WorkerProcess): void;
}

/** One process of the program, from its start to its death. */
export class WorkerProcess {
  readonly index: number;
  readonly generation: number;
  /** ms of the clock. */
  readonly started: number;
  readonly #successor: Successor;
  readonly #env: WorkerEnv;
  readonly #listener: WorkerListener;
  readonly #reports: WorkerReports<WorkerProcess>;
  readonly #admitted: Promise<void>;
  #watch: HeartbeatWatch | undefined;
  #readySince: number | undefined;
  #hasGreeted = false;
  /** Whether an upgrade would lose something of it. */
  readonly #check: Question<Checked>;
  /** How it sees the engine of the hosts. */
  readonly #inspection: Question<EngineReport>;
  #isAccepting = false;
  /** Whether it was told to accept, and has not answered yet. */
  #mayAcknowledge = false;
  #silence = 0;
  #aliveAt = -Infinity;

  /** @throws {HandoverError} `ERR_SPAWN` */
  static async start(
    env: WorkerEnv,
    command: Command,
    legacy: Legacy & { place: Omit<WorkerPlace, "peers"> },
    listener: WorkerListener,
  ): Promise<WorkerProcess> {
    const worker: { current?: WorkerProcess } = {};
    const successor = await startSuccessor(env, command, legacy, WorkerProcess.#listenerOf(worker));
    return (worker.current = new WorkerProcess(env, legacy.place, successor, listener));
  }

  /** @param holder of the worker, which does not exist yet */
  static #listenerOf(holder: { current?: WorkerProcess }): SuccessorListener {
    const of = (): WorkerProcess => holder.current!;
    return {
      acknowledged: () => of().#onAcknowledged(),
      stopping: () => {},
      channelFailed: () => {},
      progress: () => ({ connections: 0, remaining: 0 }),
      ofWorker: (message, fds) => of().#receive(message, fds),
    };
  }

  /** Goes on with a worker of the program that this process was before. Nothing is sent to it. */
  static adopt(env: WorkerEnv, state: WorkerState, listener: WorkerListener): WorkerProcess {
    const holder: { current?: WorkerProcess } = {};
    const successor = adoptSuccessor(
      env.clock,
      state.successor,
      state.generation,
      WorkerProcess.#listenerOf(holder),
    );
    const worker = new WorkerProcess(env, state, successor, listener, state);
    return (holder.current = worker);
  }

  private constructor(
    env: WorkerEnv,
    { index, generation }: Pick<WorkerPlace, "index" | "generation">,
    successor: Successor,
    listener: WorkerListener,
    before?: WorkerState,
  ) {
    this.index = index;
    this.generation = generation;
    this.started = env.clock.now() - (before?.age ?? 0);
    this.#env = env;
    this.#successor = successor;
    this.#listener = listener;
    this.#reports = new WorkerReports<WorkerProcess>(this, listener);
    const { clock } = env;
    this.#check = new Question(clock, this.dead, CHECK_TIMEOUT, () => successor.send({ type: "check" }));
    this.#inspection = new Question(clock, this.dead, INSPECT_TIMEOUT, () =>
      successor.send({ type: "inspect" }),
    );
    void this.dead.then(() => {
      this.#isAccepting = false;
      this.#watch?.stop();
      successor.close();
      listener.gone(this);
    });
    // A worker that dies before it is ready is reported by its death.
    const died = deferred<never>();
    void this.dead.then(died.reject);
    died.promise.catch(() => {});
    const isAdmitted = before?.isCommitted === true;
    this.#admitted = successor.ready.then(async () =>
      isAdmitted ? undefined : Promise.race([listener.admit(this), died.promise]),
    );
    this.#admitted.catch(() => {});
    if (before !== undefined) this.#goOn(before);
  }

  #goOn(before: WorkerState): void {
    this.#isAccepting = before.isAccepting;
    this.#mayAcknowledge = before.isCommitted && !this.#successor.hasAcknowledged;
    this.#hasGreeted = before.hasGreeted;
    this.#reports.restore(before);
    if (before.readyAge === undefined) return;
    this.#readySince = this.#env.clock.now() - before.readyAge;
    // A new watch: the time in which one program replaced the other is no silence of the worker's.
    if (before.isCommitted) this.#beginWatch();
    else this.#reportReady();
  }

  get pid(): number {
    return this.#successor.pid;
  }

  /** For {@link adopt}. */
  get state(): WorkerState {
    const now = this.#env.clock.now();
    return {
      index: this.index,
      generation: this.generation,
      age: now - this.started,
      ...(this.#readySince === undefined ? {} : { readyAge: now - this.#readySince }),
      isCommitted: this.isCommitted,
      isAccepting: this.#isAccepting,
      hasGreeted: this.#hasGreeted,
      ...this.#reports.state,
      successor: this.#successor.state,
    };
  }

  /** Whether everything that was sent is in its socket. */
  get isFlushed(): boolean {
    return this.#successor.isFlushed;
  }

  get peer(): Peer {
    return { generation: this.generation, pid: this.pid };
  }

  /** Resolves when it is ready, and may accept. Rejects with the way it died. */
  get whenReady(): Promise<void> {
    return this.#admitted;
  }

  /** Resolves when no process of it is left, with the way it died. */
  get dead(): Promise<HandoverError> {
    return this.#successor.dead.then((how) => this.#successor.failure ?? how);
  }

  /** Resolves with {@link dead}; or when it cannot be killed, with that error. */
  get deadOrUnkillable(): Promise<HandoverError> {
    return this.#successor.deadOrUnkillable;
  }

  get isDead(): boolean {
    return this.#successor.isDead;
  }

  /** When it became ready, in ms of the clock. */
  get readySince(): number | undefined {
    return this.#readySince;
  }

  /** Whether it has said that it accepts, and was not told to cease since. */
  get isAccepting(): boolean {
    return this.#isAccepting;
  }

  /** Whether its program has created an Upgrader. */
  get hasGreeted(): boolean {
    return this.#hasGreeted;
  }

  /** Whether it was told to accept. */
  get isCommitted(): boolean {
    return this.#watch !== undefined;
  }

  /** As of its last heartbeat. */
  get connections(): number {
    return this.#reports.connections;
  }

  /** Its part in a service on several hosts, as of its last heartbeat. */
  get hosts(): WorkerHosts | undefined {
    return this.#reports.hosts;
  }

  /** How what it held has ended. The connections of a worker that died without a word are lost with it. */
  get departure(): Departure {
    return this.#reports.departure;
  }

  /** ms since its last heartbeat. */
  get silence(): number {
    return this.#silence;
  }

  /**
   * Whether its event loop turns: it has sent a heartbeat after the turn in which it began to accept, and one at about `since`
   * or later, in ms of the clock. A debugger may stop one that is well.
   */
  isWell(since: number): boolean {
    const { isInspected, hasAcknowledged, hasTurned } = this.#successor;
    return isInspected ? hasAcknowledged : hasTurned && this.#aliveAt > since - DOUBTFUL_SILENCE;
  }

  /** Whether a debugger may stop it. */
  get isInspected(): boolean {
    return this.#successor.isInspected;
  }

  /** The names of the service's listeners and descriptors that it uses. */
  get used(): ReadonlySet<string> {
    return this.#reports.used;
  }

  /** The keys of its TLS servers, by the names of their listeners. */
  get ticketKeys(): Record<string, string> {
    return this.#reports.ticketKeys;
  }

  /** Reads the messages that have arrived, without waiting for the event loop. */
  readNow(): void {
    this.#successor.readNow();
  }

  /** @param roles whether it acquires the roles of the service */
  commit(ticketKeys: Record<string, string>, fence: number, roles: boolean): void {
    this.#successor.send({ type: "commit", predecessors: [], ticketKeys, fence, roles });
    this.#mayAcknowledge = true;
    this.#beginWatch();
  }

  #beginWatch(): void {
    this.#watch = new HeartbeatWatch(this.#env.clock, this.#successor, ({ silence, aliveAt }) => {
      this.#silence = silence;
      this.#aliveAt = aliveAt;
      this.#listener.silent(this, silence);
    });
  }

  confirm(): void {
    this.#successor.send({ type: "confirmed" });
  }

  /** @param leaves whether no next worker of its index comes */
  yield(leaves = false): void {
    this.#successor.send({ type: "yield", ...(leaves ? { leaves } : {}) });
  }

  cease({ generation, pid }: Peer): void {
    this.#isAccepting = false;
    this.#successor.send({ type: "cease", generation, pid });
  }

  retire(): void {
    this.#successor.send({ type: "retire" });
  }

  resume({ code, message }: HandoverError, roles: boolean, fence: number): void {
    this.#isAccepting = true;
    this.#successor.send({ type: "resume", code, message, roles, fence });
  }

  /** @param fd one end of a channel; it stays the caller's */
  connect(
    side: "successor" | "predecessor",
    { generation, pid, index }: Peer & { index: number },
    fd: number,
  ): void {
    this.#successor.send({ type: "peer", side, index, generation, pid }, [fd]);
  }

  /**
   * Lets it move idle connections to another worker while it serves.
   *
   * @param fd one end of a channel to that worker; it stays the caller's
   */
  rebalance({ index, peer: { generation, pid } }: WorkerProcess, count: number, fd: number): void {
    this.#successor.send({ type: "rebalance", index, generation, pid, count }, [fd]);
  }

  endRebalance(): void {
    this.#successor.send({ type: "rebalance-end" });
  }

  roles(held: boolean, fence: number): void {
    this.#successor.send({ type: "roles", held, fence });
  }

  /** @param fd stays the caller's */
  lend(name: string, index: number, fd: number): void {
    this.#successor.send({ type: "lend", name, index }, [fd]);
  }

  unlend(name: string, index: number): void {
    this.#successor.send({ type: "unlend", name, index });
  }

  /** @param fd on which the server of the listener `name`, or the only HTTP server, answers; it stays the caller's */
  probe(name: string | undefined, fd: number): void {
    this.#successor.send({ type: "probe", ...(name === undefined ? {} : { name }) }, [fd]);
  }

  stop(): void {
    this.#isAccepting = false;
    this.#successor.send({ type: "stop" });
  }

  signal(name: NodeJS.Signals): void {
    try {
      if (!this.isDead) process.kill(this.pid, name);
    } catch {
      // It has exited.
    }
  }

  /**
   * Requires that an upgrade would lose nothing of it. One that does not answer in time is not asked further: the upgrade shows
   * whether it hangs.
   *
   * @throws {HandoverError} `ERR_UNMANAGED_LISTENER`
   */
  async assertReplaceable(): Promise<void> {
    const checked = await this.#check.ask();
    if (checked?.code === undefined) return;
    const { code, message = "" } = checked;
    throw new HandoverError(code as ErrorCode, `worker ${this.index}: ${message}`);
  }

  /** Its look at the engine of the hosts; undefined if it does not answer. */
  async inspect(): Promise<EngineReport | undefined> {
    return this.#inspection.ask();
  }

  /** Holds a worker that is ready for a later upgrade. False if it does not answer. */
  async stage(ttl: number): Promise<boolean> {
    return this.#successor.stage(ttl);
  }

  /** Ends a worker that was started for a rehearsal. */
  async endRehearsal(): Promise<void> {
    await this.#successor.endRehearsal();
  }

  /** @param fd stays the caller's */
  answer(message: Message & { type: "opened" | "asked" | "owned" }, fd?: number): void {
    if (message.type === "opened" && message.entry !== undefined) this.#reports.opened(message.entry.name);
    this.#successor.send(message, fd === undefined ? [] : [fd]);
  }

  /** Kills it. {@link dead} resolves with `reason`. */
  fail(reason: HandoverError): void {
    this.#successor.fail(reason);
  }

  /** A second acknowledgement says nothing: the worker may have ceased since. */
  #onAcknowledged(): void {
    if (!this.#mayAcknowledge) return;
    this.#mayAcknowledge = false;
    this.#isAccepting = true;
    this.#listener.acknowledged(this);
  }

  #receive(message: Message, fds: number[]): boolean {
    switch (message.type) {
      case "hello":
        this.#onHello(message);
        return false;
      case "ready":
        this.#onReady(message);
        return false;
      case "checked":
        this.#check.answered(message);
        return false;
      case "inspected":
        this.#inspection.answered(message.report as unknown as EngineReport);
        return false;
      default:
        return this.#reports.receive(message, fds);
    }
  }

  /** An earlier version would bind the listeners itself, and accept for ever. */
  #onHello({ capabilities, version }: Message & { type: "hello" }): void {
    this.#hasGreeted = true;
    if (capabilities.includes(SUPERVISED_CAPABILITY)) return;
    const message = `the program uses handover ${version}, which cannot be a worker; its supervisor has ${VERSION}`;
    this.fail(new HandoverError("ERR_PROTOCOL", message));
  }

  #onReady(message: Message & { type: "ready" }): void {
    this.#readySince ??= this.#env.clock.now();
    this.#reports.ready(message);
    this.#reportReady();
  }

  #reportReady(): void {
    void this.#admitted.then(
      () => this.isDead || this.#listener.ready(this),
      () => {},
    );
  }
}

/** The connections of several workers, as of their last heartbeats. */
export function connectionsOf(workers: Iterable<WorkerProcess>): number {
  return [...workers].reduce((sum, { connections }) => sum + connections, 0);
}

/** ms in which a worker says whether it can be replaced. */
const CHECK_TIMEOUT = 1_000;

/** ms in which a worker looks at the engine of the hosts: two answers of 5 s that do not come, and some. */
const INSPECT_TIMEOUT = 15_000;

type Checked = Message & { type: "checked" };

/** One process of the program, as another supervisor takes it over. Ages in ms. */
export interface WorkerState extends ReportsState {
  index: number;
  generation: number;
  age: number;
  readyAge?: number;
  isCommitted: boolean;
  isAccepting: boolean;
  hasGreeted: boolean;
  successor: SuccessorState;
}

type WorkerEnv = Pick<Env, "pid" | "spawn" | "clock">;

/** An end of a channel to another worker, and who is at the other one. */
export type PeerLink = Peer & { readonly index: number; readonly fd: number };
