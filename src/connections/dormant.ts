import { constants } from "node:os";
import type { ConnectionAdapter } from "./adapter.js";
import { check, native, POLL, type Watcher } from "../platform/native.js";

/** A connection that was adopted, and has not spoken since: a descriptor, and no socket. */
export interface DormantConnection {
  readonly fd: number;
  readonly state: unknown;
  readonly adapter: ConnectionAdapter;
}

interface DormantListener {
  /** It speaks, or its client has gone; the descriptor is the listener's. */
  wake(dormant: DormantConnection): void;
  /** It was silent for too long; its descriptor is closed. */
  expire(dormant: DormantConnection): void;
}

/**
 * Waits for the first byte on any number of silent connections with one descriptor, as creating a socket for
 * each would take most of the time of a move.
 */
export class DormantConnections {
  readonly #listener: DormantListener;
  readonly #connections = new Map<number, { dormant: DormantConnection; deadline: number }>();
  readonly #set: number;
  readonly #watcher: Watcher;
  #sweep: NodeJS.Timeout | undefined;

  /** Undefined where the system has nothing for it: then sockets are made at once. */
  static open(listener: DormantListener): DormantConnections | undefined {
    const set = native().readinessCreate();
    if (set === -constants.errno.ENOSYS) return undefined;
    return new DormantConnections(check(set, "make", "a set of descriptors"), listener);
  }

  private constructor(set: number, listener: DormantListener) {
    this.#set = set;
    this.#listener = listener;
    this.#watcher = new (native().Watcher)(set, () => this.#wake());
    this.#watcher.watch(POLL.readable);
    this.#watcher.unref();
  }

  get size(): number {
    return this.#connections.size;
  }

  *[Symbol.iterator](): Generator<DormantConnection> {
    for (const { dormant } of this.#connections.values()) yield dormant;
  }

  /** Owns the descriptor from now on. `patience` is in ms. */
  add(dormant: DormantConnection, patience: number): void {
    const { fd } = dormant;
    check(native().readinessAdd(this.#set, fd), "wait for", `descriptor ${fd}`);
    this.#connections.set(fd, { dormant, deadline: performance.now() + patience });
    this.#sweep ??= setInterval(() => this.#expire(), SWEEP_EVERY).unref();
  }

  /** Hands the descriptor back; false if it has left by itself. */
  remove({ fd }: DormantConnection): boolean {
    if (!this.#connections.delete(fd)) return false;
    native().readinessRemove(this.#set, fd);
    if (this.#connections.size === 0) {
      clearInterval(this.#sweep);
      this.#sweep = undefined;
    }
    return true;
  }

  close(): void {
    clearInterval(this.#sweep);
    this.#watcher.close();
    native().close(this.#set);
    for (const fd of this.#connections.keys()) native().close(fd);
    this.#connections.clear();
  }

  /** What is left of more than it takes at once makes the set readable again. How many it has taken. */
  #wake(): number {
    const ready = native().readinessTake(this.#set);
    if (typeof ready === "number") return 0;
    for (const fd of ready) {
      const dormant = this.#connections.get(fd)?.dormant;
      if (dormant !== undefined && this.remove(dormant)) this.#listener.wake(dormant);
    }
    return ready.length;
  }

  /** A timer runs before what has arrived meanwhile is looked at, and that is not silent. */
  #expire(): void {
    while (this.#wake() > 0);
    const time = performance.now();
    for (const { dormant, deadline } of this.#connections.values()) {
      if (deadline > time || !this.remove(dormant)) continue;
      native().close(dormant.fd);
      this.#listener.expire(dormant);
    }
  }
}

/** ms: a connection may be silent for this much longer. */
const SWEEP_EVERY = 1_000;
