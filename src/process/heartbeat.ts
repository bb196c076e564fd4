import { builtins } from "../platform/builtins.js";
import type { Clock } from "../util/clock.js";

/** ms between two heartbeats. */
const INTERVAL = 250;

/** Whether a debugger may stop this process, which is then silent without being ill. */
export function isInspected(): boolean {
  return builtins.inspector.url() !== undefined;
}

/** Sends a heartbeat several times a second, as long as the event loop of this process turns. */
export class Heartbeat {
  readonly #timer: NodeJS.Timeout;

  /** The first heartbeat is sent at once. */
  constructor(send: () => void) {
    this.#timer = setInterval(send, INTERVAL).unref();
    send();
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}

/** A process that sends heartbeats. */
interface Patient {
  /** Reads the heartbeats that have arrived. */
  readNow(): void;
  /** Heartbeats so far. */
  readonly heartbeats: number;
}

/**
 * Measures how long a process has been silent. Time in which the watching process itself was late does not count: after a
 * pause of its own it would take every other process for dead.
 */
export class HeartbeatWatch {
  readonly #clock: Clock;
  readonly #patient: Patient;
  readonly #onTick: (silence: number) => void;
  #lastTick: number;
  #heartbeats = 0;
  #silence = 0;
  #cancel: () => void;

  /** @param onTick called several times a second with the length of the silence, in ms */
  constructor(clock: Clock, patient: Patient, onTick: (silence: number) => void) {
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
    // A tick that is late by more than one interval says that this process was busy.
    this.#silence += Math.min(now - this.#lastTick, 2 * INTERVAL);
    this.#lastTick = now;
    this.#cancel = this.#clock.after(INTERVAL, () => this.#tick());
    this.#patient.readNow();
    const { heartbeats } = this.#patient;
    if (heartbeats > this.#heartbeats) this.#silence = 0;
    this.#heartbeats = heartbeats;
    this.#onTick(this.#silence);
  }
}

/**
 * ms of silence after which a process is not known to be well: a heartbeat is missing. It is confirmed by the next one, so that
 * a process which hangs from its acknowledgement on is not confirmed at the end of a short probation.
 */
export const DOUBTFUL_SILENCE = 1.5 * INTERVAL;
