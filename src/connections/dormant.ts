import { constants } from "node:os";
import type { ConnectionAdapter } from "./adapter.js";
import { check, native, POLL, type Watcher } from "../platform/native.js";

/** A connection that was adopted, and has not spoken since: a descriptor, and no socket. */
export interface Parked {
  readonly fd: number;
  readonly state: unknown;
  readonly adapter: ConnectionAdapter;
}

interface ParkingListener {
  /** It speaks, or its client has gone; the descriptor is the listener's. */
  wake(parked: Parked): void;
  /** It was silent for too long; its descriptor is closed. */
  expire(parked: Parked): void;
}

/**
 * Waits for the first byte on any number of silent connections with one descriptor, as creating a socket for
 * each would take most of the time of a move.
 */
export class Parking {
  readonly #listener: ParkingListener;
  readonly #parked = new Map<number, { parked: Parked; deadline: number }>();
  readonly #set: number;
  readonly #watcher: Watcher;
  #sweep: NodeJS.Timeout | undefined;

  /** Undefined where the system has nothing for it: then sockets are made at once. */
  static open(listener: ParkingListener): Parking | undefined {
    const set = native().readinessCreate();
    if (set === -constants.errno.ENOSYS) return undefined;
    return new Parking(check(set, "make", "a set of descriptors"), listener);
  }

  private constructor(set: number, listener: ParkingListener) {
    this.#set = set;
    this.#listener = listener;
    this.#watcher = new (native().Watcher)(set, () => this.#wake());
    this.#watcher.watch(POLL.readable);
    this.#watcher.unref();
  }

  get size(): number {
    return this.#parked.size;
  }

  *[Symbol.iterator](): Generator<Parked> {
    for (const { parked } of this.#parked.values()) yield parked;
  }

  /** Owns the descriptor from now on. `patience` is in ms. */
  add(parked: Parked, patience: number): void {
    const { fd } = parked;
    check(native().readinessAdd(this.#set, fd), "wait for", `descriptor ${fd}`);
    this.#parked.set(fd, { parked, deadline: performance.now() + patience });
    this.#sweep ??= setInterval(() => this.#expire(), SWEEP_EVERY).unref();
  }

  /** Hands the descriptor back; false if it has left by itself. */
  remove({ fd }: Parked): boolean {
    if (!this.#parked.delete(fd)) return false;
    native().readinessRemove(this.#set, fd);
    if (this.#parked.size === 0) {
      clearInterval(this.#sweep);
      this.#sweep = undefined;
    }
    return true;
  }

  close(): void {
    clearInterval(this.#sweep);
    this.#watcher.close();
    native().close(this.#set);
    for (const fd of this.#parked.keys()) native().close(fd);
    this.#parked.clear();
  }

  /** What is left of more than it takes at once makes the set readable again. How many it has taken. */
  #wake(): number {
    const ready = native().readinessTake(this.#set);
    if (typeof ready === "number") return 0;
    for (const fd of ready) {
      const parked = this.#parked.get(fd)?.parked;
      if (parked !== undefined && this.remove(parked)) this.#listener.wake(parked);
    }
    return ready.length;
  }

  /** A timer runs before what has arrived meanwhile is looked at, and that is not silent. */
  #expire(): void {
    while (this.#wake() > 0);
    const time = performance.now();
    for (const { parked, deadline } of this.#parked.values()) {
      if (deadline > time || !this.remove(parked)) continue;
      native().close(parked.fd);
      this.#listener.expire(parked);
    }
  }
}

/** ms: a connection may be silent for this much longer. */
const SWEEP_EVERY = 1_000;
