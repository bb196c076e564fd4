import type { Channel } from "../channel/channel.js";
import { HandoverError } from "../errors.js";
import type { ExitStatus } from "../platform/child-process.js";
import { awaitInput, type Clock } from "../util/clock.js";
import { deferred } from "../util/deferred.js";
import { exitError } from "./exit-reason.js";
import { PeerProcess } from "./peer-process.js";
import type { SpawnedProcess } from "./spawn.js";
import type { UncaughtError } from "./uncaught-error.js";

/**
 * The life of a successor's process, from its start to its death, or until it is disowned.
 *
 * The process that was spawned may be a wrapper, whose child is the successor. So the successor lives as long as a process
 * holds the channel, and its PID is the one that the kernel vouches for. It is dead when the channel has ended.
 */
export class SuccessorProcess {
  /** Resolves when the successor is dead, with the way it died. */
  readonly dead: Promise<HandoverError>;
  /** Resolves when the successor was killed and does not die, with that error. */
  readonly unkillable: Promise<HandoverError>;
  /** The last error that the successor did not catch, as far as it has reported any. */
  uncaught: UncaughtError | undefined;
  readonly #clock: Clock;
  readonly #spawned: SpawnedProcess;
  readonly #channel: Channel;
  /** The process that has said hello, unless it is the spawned one. */
  #peer: PeerProcess | undefined;
  readonly #dead = deferred<HandoverError>();
  readonly #unkillable = deferred<HandoverError>();
  #status: ExitStatus | undefined;
  #hasHungUp = false;
  #isDead = false;
  #isOwned = true;
  #failure: HandoverError | undefined;
  #cancelDeathTimeout: () => void = () => {};
  #cancelHangUpTimeout: (() => void) | undefined;

  /** @param channel to the process; its owner reports its end with {@link onHangUp} */
  constructor(clock: Clock, spawned: SpawnedProcess, channel: Channel) {
    this.#clock = clock;
    this.#spawned = spawned;
    this.#channel = channel;
    this.dead = this.#dead.promise;
    this.unkillable = this.#unkillable.promise;
    void spawned.exited.then((status) => {
      this.#status = status;
      this.#onExit();
    });
  }

  get isDead(): boolean {
    return this.#isDead;
  }

  /** False from {@link disown} on. */
  get isOwned(): boolean {
    return this.#isOwned;
  }

  get pid(): number {
    return this.#peer?.pid ?? this.#spawned.pid;
  }

  /** The process that was started, and the one that has said hello if that is another one. */
  get pids(): { spawned: number; peer?: number } {
    const { pid: spawned } = this.#spawned;
    return this.#peer === undefined ? { spawned } : { spawned, peer: this.#peer.pid };
  }

  /** The reason for which this process killed the successor. */
  get failure(): HandoverError | undefined {
    return this.#failure;
  }

  /** @param sender of the hello: the PID that the kernel vouches for; 0 where it is unknown */
  identify(sender: number): void {
    if (sender === 0 || sender === this.#spawned.pid || this.#peer !== undefined) return;
    this.#peer = new PeerProcess(sender);
    void this.#peer.exited.then(() => this.#onExit());
  }

  /** Kills the successor for `reason`. */
  fail(reason: HandoverError): void {
    this.#failure ??= reason;
    this.kill();
  }

  /** Kills the successor, and the process that was spawned for it. {@link dead} resolves when no process is left. */
  kill(): void {
    if (this.#isDead) return;
    this.#spawned.kill();
    this.#peer?.kill();
    this.#awaitHangUp(HANG_UP_TIMEOUT);
  }

  /** Kills the successor unless it dies now of itself; returns a function that ends this. */
  killIfLate(): () => void {
    return this.#clock.after(DEATH_TIMEOUT, () => this.kill());
  }

  /** Lets the process live on when this one has exited. {@link dead} may stay pending from then on. */
  async detach(): Promise<void> {
    await this.#spawned.detach();
  }

  /** The process is no longer killed, and does not keep the event loop alive. */
  disown(): void {
    this.#isOwned = false;
    this.#cancelTimeouts();
    this.#spawned.unref();
    this.#peer?.close();
  }

  /** The channel has ended; with an error if the successor broke the protocol. */
  onHangUp(error: HandoverError | undefined): void {
    this.#hasHungUp = true;
    if (!this.#isOwned || this.#isDead) return;
    this.#spawned.requestStatus();
    if (error !== undefined) this.fail(error);
    if (this.#hasExited) return this.#die();
    const message = `the successor (pid ${this.pid}) closed its channel, but kept running`;
    const reason = new HandoverError("ERR_PROTOCOL", message);
    const requestStatus = (): void => this.#spawned.requestStatus();
    this.#cancelDeathTimeout = awaitInput(this.#clock, DEATH_TIMEOUT, requestStatus, () => this.fail(reason));
  }

  #onExit(): void {
    // The end of the channel may have arrived, and was not read yet.
    this.#channel.readNow();
    if (!this.#hasExited || this.#isDead) return;
    // The newest process of the service may hold the channel of a disowned successor: it takes the remaining parcels.
    if (this.#hasHungUp) this.#die();
    else if (!this.#isOwned) return;
    // Before it has said hello, a child of the spawned process may still become the successor.
    else if (this.#peer !== undefined) this.#awaitHangUp(DEATH_TIMEOUT);
  }

  /** Whether the successor's process has exited, as far as it is known. */
  get #hasExited(): boolean {
    return this.#peer === undefined ? this.#status !== undefined : this.#peer.hasExited;
  }

  #awaitHangUp(timeout: number): void {
    const readNow = (): void => this.#channel.readNow();
    this.#cancelHangUpTimeout ??= awaitInput(this.#clock, timeout, readNow, () => this.#onNoHangUp());
  }

  /** The channel has not ended, although the successor was killed or has exited. */
  #onNoHangUp(): void {
    if (this.#isDead || !this.#isOwned) return;
    if (this.#hasExited) return this.#endHolders();
    const message = `the successor (pid ${this.pid}) cannot be killed; no upgrade starts before it has exited`;
    this.#unkillable.resolve(new HandoverError("ERR_UNKILLABLE", message, { cause: this.#failure }));
  }

  /**
   * A wrapper holds the channel of a successor that has exited. It may start another one, which would take the end of the
   * channel for the death of its predecessor, and accept: that one is told to exit first.
   */
  #endHolders(): void {
    process.emitWarning(
      `a process that was started for the successor (pid ${this.pid}) holds its channel, although the successor has exited: ` +
        "it is killed, and the channel is shut down. A wrapper must exec the program, or close descriptor 3 after it has passed it on.",
      { code: "HANDOVER_WRAPPER" },
    );
    this.#channel.send({ type: "rehearsed" });
    this.#spawned.kill();
    this.#channel.shutDown();
    this.#die();
  }

  #die(): void {
    this.#isDead = true;
    this.#cancelTimeouts();
    this.#peer?.close();
    this.#dead.resolve(this.#exitError());
  }

  /** The exit status of a wrapper says nothing about the successor. */
  #exitError(): HandoverError {
    const status = this.#peer === undefined ? this.#status : undefined;
    return exitError(this.pid, status, this.uncaught);
  }

  #cancelTimeouts(): void {
    this.#cancelDeathTimeout();
    this.#cancelHangUpTimeout?.();
  }
}

/** ms in which a process must die after the end of its channel, or of a rehearsal. */
const DEATH_TIMEOUT = 1_000;

/** ms in which the channel has to end after the successor was killed. */
const HANG_UP_TIMEOUT = 5_000;
