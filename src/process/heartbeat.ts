import type { Clock } from "../util/clock.js";

/** ms between two heartbeats. */
const INTERVAL = 250;

/** Sends a heartbeat several times a second, as long as the event loop of this process turns. */
export class Heartbeat {
  readonly #timer: NodeJS.Timeout;
  readonly #nextTurn: NodeJS.Immediate;

  /** The first heartbeat is sent at once, and the second when the turn is over: it says that nothing in it has blocked. */
  constructor(send: () => void) {
    this.#timer = setInterval(send, INTERVAL).unref();
    this.#nextTurn = setImmediate(send).unref();
    send();
  }

  stop(): void {
    clearInterval(this.#timer);
    clearImmediate(this.#nextTurn);
  }
}

/** A process that sends heartbeats. */
interface Patient {
  /** Reads the heartbeats that have arrived. */
  readNow(): void;
  /** Heartbeats so far. */
  readonly heartbeats: number;
}

/** What is known of a process that sends heartbeats. */
interface Pulse {
  /** ms for which it has been silent. */
  readonly silence: number;
  /** The latest time at which it certainly lived, on the clock of the watch. */
  readonly aliveAt: number;
}

/**
 * Measures how long a process has been silent. Time in which the watching process itself was late does not count: after a
 * pause of its own it would take every other process for dead. Nor does that time count for the other process: a heartbeat that
 * was read late says nothing of the time since the tick before.
 */
export class HeartbeatWatch {
  readonly #clock: Clock;
  readonly #patient: Patient;
  readonly #onTick: (pulse: Pulse) => void;
  #lastTick: number;
  #heartbeats = 0;
  #silence = 0;
  #aliveAt = -Infinity;
  #cancel: () => void;

  /** @param onTick called several times a second */
  constructor(clock: Clock, patient: Patient, onTick: (pulse: Pulse) => void) {
    this.#clock = clock;
    this.#patient = patient;
    this.#onTick = onTick;
    this.#lastTick = clock.now();
    this.#cancel = clock.after(INTERVAL, () => this.#tick());
  }

  stop(): void {
    this.#cancel();
  }

  #tick(): void {
    const now = this.#clock.now();
    const before = this.#lastTick;
    // A tick that is late by more than one interval says that this process was busy.
    this.#silence += Math.min(now - before, 2 * INTERVAL);
    this.#lastTick = now;
    this.#cancel = this.#clock.after(INTERVAL, () => this.#tick());
    this.#patient.readNow();
    const { heartbeats } = this.#patient;
    if (heartbeats > this.#heartbeats) {
      this.#silence = 0;
      // The tick before has read everything that had been sent by then.
      this.#aliveAt = before;
    }
    this.#heartbeats = heartbeats;
    this.#onTick({ silence: this.#silence, aliveAt: this.#aliveAt });
  }
}

/** ms of silence after which a process is not known to be well: a heartbeat is missing. The next one shows that it is. */
export const DOUBTFUL_SILENCE = 1.5 * INTERVAL;

/** ms of silence after which no further connection goes to a worker: three heartbeats are missing. */
export const MISSED_HEARTBEATS = 3 * INTERVAL;
