import type { Channel } from "../channel/channel.js";
import type { Message } from "../channel/messages.js";
import { HandoverError } from "../errors.js";
import type { Exchange } from "../exchange/exchange.js";
import { LocalExchange } from "../exchange/local-exchange.js";
import { closeAll } from "../platform/descriptors.js";
import { awaitInput, type Clock } from "../util/clock.js";
import { deferred, type Deferred } from "../util/deferred.js";
import { HEARTBEAT_CAPABILITY, STAGE_CAPABILITY } from "./inheritance.js";
import type { DrainProgress, Predecessor } from "./predecessor.js";
import type { SpawnedProcess } from "./spawn.js";
import { SuccessorProcess } from "./successor-process.js";
import type { UncaughtError } from "./uncaught-error.js";

/** The messages of the successor, once it is ready. */
export interface SuccessorListener {
  /** The successor has read the commit, and accepts. */
  acknowledged(): void;
  /** The successor stops, which is not a reason for a rollback. */
  stopping(): void;
  /** The channel has failed after the successor was confirmed: nothing more moves. */
  channelFailed(error: HandoverError): void;
  /** A query for the progress of this process's drain, by the newest process of the service. */
  progress(): DrainProgress;
  /** A message of a worker. Returns whether it was one that only a supervisor understands: the descriptors are its own then. */
  ofWorker?(message: Message, fds: number[]): boolean;
}

/** What is known of a successor, without what its channel still holds. */
export interface SuccessorState {
  /** The descriptor. */
  channel: number;
  /** The process that was started, and the one that has said hello if that is another one. */
  spawned: number;
  peer?: number;
  capabilities?: readonly string[] | undefined;
  isInspected: boolean;
  isReady: boolean;
  hasAcknowledged: boolean;
  hasTurned: boolean;
  used: string[];
}

/** The successor of this process, and the channel to it. This process owns both until {@link disown}. */
export class Successor {
  /** Resolves when the successor is ready. Rejects with the reason, once the successor is dead or cannot be killed. */
  readonly ready: Promise<void>;
  /** Resolves when the successor is dead, with the way it died. */
  readonly dead: Promise<HandoverError>;
  /** Resolves when the channel has ended or is closed. This is known even after {@link disown}. */
  readonly gone: Promise<void>;
  readonly #process: SuccessorProcess;
  readonly #channel: Channel;
  readonly #listener: SuccessorListener;
  readonly #exchange: LocalExchange;
  /** Of its hello; undefined before. */
  #capabilities: readonly string[] | undefined;
  #isInspected = false;
  #heartbeats = 0;
  #isReady = false;
  #hasAcknowledged = false;
  #hasTurned = false;
  #used: ReadonlySet<string> = new Set();
  readonly #resolveReady: () => void;
  /** Resolves when the successor says again that it is ready. */
  #stageAnswer: Deferred<boolean> | undefined;
  readonly #resolveGone: () => void;
  readonly #clock: Clock;

  /** @param before what another program knew of the successor, which this process was before */
  constructor(
    clock: Clock,
    channel: Channel,
    spawned: SpawnedProcess,
    generation: number,
    listener: SuccessorListener,
    before?: SuccessorState,
  ) {
    this.#clock = clock;
    this.#channel = channel;
    this.#process = new SuccessorProcess(clock, spawned, channel);
    this.#listener = listener;
    this.#exchange = new LocalExchange(channel, { generation, pid: spawned.pid }, needsNoFence);
    const gone = deferred<void>();
    this.gone = gone.promise;
    this.#resolveGone = gone.resolve;
    this.dead = this.#process.dead;
    const ready = deferred<void>();
    this.ready = ready.promise;
    this.#resolveReady = ready.resolve;
    void this.dead.then((how) => {
      this.#exchange.end();
      ready.reject(this.failure ?? how);
    });
    void this.#process.unkillable.then(ready.reject);
    channel.listen({
      message: (...message) => this.#receive(...message),
      fail: (...failure) => this.#onChannelFailure(...failure),
      end: (error) => this.#onEnd(error),
    });
    if (before !== undefined) this.#restore(before);
  }

  #restore({ peer, isReady, ...known }: SuccessorState): void {
    if (peer !== undefined) this.#process.identify(peer);
    this.#capabilities = known.capabilities;
    this.#isInspected = known.isInspected;
    this.#hasAcknowledged = known.hasAcknowledged;
    this.#hasTurned = known.hasTurned;
    this.#used = new Set(known.used);
    this.#isReady = isReady;
    if (isReady) this.#resolveReady();
  }

  /** For the next program of this process, if it is replaced by execve(2). */
  get state(): SuccessorState {
    return {
      ...this.#process.pids,
      channel: this.#channel.fd,
      capabilities: this.#capabilities,
      isInspected: this.#isInspected,
      isReady: this.#isReady,
      hasAcknowledged: this.#hasAcknowledged,
      hasTurned: this.#hasTurned,
      used: [...this.#used],
    };
  }

  /** Whether everything that was sent is in the successor's socket. */
  get isFlushed(): boolean {
    return this.#channel.isFlushed;
  }

  /** Resolves when the successor is dead, with the way it died; or when it cannot be killed, with that error. */
  get deadOrUnkillable(): Promise<HandoverError> {
    return Promise.race([this.dead, this.#process.unkillable]);
  }

  get isDead(): boolean {
    return this.#process.isDead;
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** The names of the inherited descriptors that the successor uses. */
  get used(): ReadonlySet<string> {
    return this.#used;
  }

  /** The exchange on which this process offers parcels. */
  get exchange(): Exchange {
    return this.#exchange;
  }

  /** Whether the successor acknowledges the commit and sends heartbeats; an earlier version does not. */
  get hasHeartbeat(): boolean {
    return this.#capabilities?.includes(HEARTBEAT_CAPABILITY) === true;
  }

  /** Whether the successor can wait for a later upgrade; an earlier version cannot. */
  get canBeStaged(): boolean {
    return this.#capabilities?.includes(STAGE_CAPABILITY) === true;
  }

  /** Signs of life since the commit. */
  get heartbeats(): number {
    return this.#heartbeats;
  }

  /** Whether the successor has read the commit, and begun to accept. */
  get hasAcknowledged(): boolean {
    return this.#hasAcknowledged;
  }

  /** Whether its event loop has turned since: its program may block for ever in the turn in which it begins to accept. */
  get hasTurned(): boolean {
    return this.#hasTurned;
  }

  /** Whether a debugger may stop the successor. */
  get isInspected(): boolean {
    return this.#isInspected;
  }

  /** The reason for which this process killed the successor. */
  get failure(): HandoverError | undefined {
    return this.#process.failure;
  }

  /** The last error that the successor did not catch, as far as it has reported any. */
  get uncaught(): UncaughtError | undefined {
    return this.#process.uncaught;
  }

  /** Kills the successor. {@link ready} rejects with `reason`. */
  fail(reason: HandoverError): void {
    this.#process.fail(reason);
  }

  /** Reads the messages that have arrived, without waiting for the event loop. */
  readNow(): void {
    this.#channel.readNow();
  }

  /** Sends a message of a supervisor to its worker. False if it is gone. The descriptors stay the caller's. */
  send(message: Message, fds: readonly number[] = []): boolean {
    return this.#channel.send(message, fds);
  }

  /**
   * Tells the successor to accept. False if it is gone.
   *
   * @throws if the message is too long, or a descriptor cannot be queued
   */
  sendCommit(
    predecessors: readonly Predecessor[],
    ticketKeys: Record<string, string>,
    fence: number,
  ): boolean {
    const peers = predecessors.map(({ generation, pid }) => ({ generation, pid }));
    return this.#channel.send(
      { type: "commit", predecessors: peers, ticketKeys, fence },
      predecessors.map((one) => one.passChannelOn()),
    );
  }

  /**
   * Tells the successor that a later upgrade commits it, within `ttl` ms. Returns false if it does not answer in time that it
   * still is ready: it hangs, or is dead.
   */
  async stage(ttl: number): Promise<boolean> {
    const answer = deferred<boolean>();
    this.#stageAnswer = answer;
    // If it has closed the channel, it is dead soon, and the way it died says more than its silence.
    this.#channel.send({ type: "stage", ttl });
    const onLate = (): void => answer.resolve(false);
    const cancel = awaitInput(this.#clock, STAGE_TIMEOUT, () => this.readNow(), onLate);
    void this.dead.then(() => answer.resolve(false));
    const isReady = await answer.promise;
    cancel();
    return isReady;
  }

  /** Tells the successor that it was started by a rehearsal, and waits for its death; one that is late is killed. */
  async endRehearsal(): Promise<void> {
    this.#channel.send({ type: "rehearsed" });
    const cancel = this.#process.killIfLate();
    const how = await this.deadOrUnkillable;
    cancel();
    if (!this.isDead) throw how;
    this.close();
  }

  sendConfirmed(): void {
    this.#channel.send({ type: "confirmed" });
    this.#exchange.confirm();
  }

  sendStopping(): void {
    this.#channel.send({ type: "stopping" });
  }

  /** Kills the successor, and the process that was spawned for it. {@link dead} resolves when no process is left. */
  kill(): void {
    this.#process.kill();
  }

  /** Lets the successor's process live on when this one has exited. {@link dead} may stay pending from then on. */
  async detachProcess(): Promise<void> {
    await this.#process.detach();
  }

  /**
   * The successor is confirmed: it is no longer killed. The channel stays open, as its end tells the
   * successor that this process is gone.
   */
  disown(): void {
    this.#process.disown();
  }

  /** Closes the channel. Only for a successor that is dead, or it would take this process for dead and accept. */
  close(): void {
    this.#channel.close();
    this.#exchange.end();
    this.#resolveGone();
  }

  #receive(message: Message, fds: number[], body: Uint8Array, sender: number): void {
    if (this.#exchange.receive(message, fds, body)) return;
    if (this.#listener.ofWorker?.(message, fds) === true) return;
    closeAll(fds);
    switch (message.type) {
      case "hello":
        this.#process.identify(sender);
        this.#capabilities = message.capabilities;
        this.#isInspected = message.inspected ?? false;
        break;
      case "commit-ack":
        this.#heartbeats++;
        this.#hasAcknowledged = true;
        this.#listener.acknowledged();
        break;
      case "heartbeat":
        this.#heartbeats++;
        this.#hasTurned = this.#hasAcknowledged;
        this.#isInspected = message.inspected ?? false;
        break;
      case "ready":
        this.#onReady(message.used);
        break;
      case "uncaught":
        this.#process.uncaught = message;
        break;
      case "stopping":
        this.#listener.stopping();
        break;
      case "confirmed":
        this.#exchange.confirm();
        break;
      case "progress-query":
        this.#channel.send({ type: "progress", ...this.#listener.progress() });
        break;
      default:
    }
  }

  /** Comes again when the successor takes more descriptors into use before the commit. */
  #onReady(used: readonly string[]): void {
    if (this.#capabilities === undefined) {
      const message = `the successor (pid ${this.pid}) did not say hello`;
      return this.fail(new HandoverError("ERR_PROTOCOL", message));
    }
    this.#used = new Set(used);
    this.#stageAnswer?.resolve(true);
    this.#isReady = true;
    return this.#resolveReady();
  }

  /** The successor may have the connections that were sent, and lives: until it is dead they do not continue here. */
  #onChannelFailure(error: HandoverError, unsent: readonly Message[]): void {
    this.#exchange.fail(unsent);
    if (this.#process.isOwned) return this.fail(error);
    this.#exchange.lose();
    return this.#listener.channelFailed(error);
  }

  #onEnd(error: HandoverError | undefined): void {
    this.#exchange.fail([]);
    this.#resolveGone();
    // One that broke the protocol lives, and may have the connections that were sent: they do not continue here.
    if (this.isDead || (!this.#process.isOwned && error === undefined)) this.#exchange.end();
    else if (!this.#process.isOwned) this.#exchange.lose();
    this.#process.onHangUp(error);
  }
}

/** Nothing is taken from a successor, so nothing of it needs a fence. */
const needsNoFence = (): number => 0;

/** ms in which a staged successor has to say that it still is ready. */
const STAGE_TIMEOUT = 1_000;
