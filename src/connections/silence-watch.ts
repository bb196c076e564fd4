import { constants } from "node:os";
import { check, createWatcher, native, POLL, type Watcher } from "../platform/native.js";

/** A descriptor that is watched. */
interface Silent {
  readonly fd: number;
  /** When its silence ends it, in ms of `performance.now()`. */
  readonly deadline: number;
}

interface SilenceListener<T> {
  /** There are bytes to read, or the client has ended the connection; the descriptor is the listener's. */
  spoke(silent: T): void;
  /** The deadline has passed; the descriptor is the listener's. */
  expired(silent: T): void;
}

/**
 * Waits for the first byte on any number of connections with one descriptor: a socket for each would take most of the
 * time of a move.
 */
export class SilenceWatch<T extends Silent> {
  readonly #listener: SilenceListener<T>;
  readonly #silent = new Map<number, T>();
  readonly #set: number;
  readonly #watcher: Watcher;
  #sweep: NodeJS.Timeout | undefined;

  /**
   * Undefined where the system cannot watch a set of descriptors.
   *
   * @throws {HandoverError} `ERR_DESCRIPTOR`
   */
  static open<T extends Silent>(listener: SilenceListener<T>): SilenceWatch<T> | undefined {
    const set = native().readinessCreate();
    if (set === -constants.errno.ENOSYS) return undefined;
    check(set, "make", "a set of descriptors");
    try {
      return new SilenceWatch(set, listener);
    } catch (error) {
      native().close(set);
      throw error;
    }
  }

  private constructor(set: number, listener: SilenceListener<T>) {
    this.#set = set;
    this.#listener = listener;
    this.#watcher = createWatcher(set, () => this.#takeReady());
    this.#watcher.watch(POLL.readable);
  }

  get size(): number {
    return this.#silent.size;
  }

  [Symbol.iterator](): Iterator<T> {
    return this.#silent.values();
  }

  /**
   * Owns the descriptor from now on.
   *
   * @throws {HandoverError} `ERR_DESCRIPTOR`: the descriptor stays the caller's
   */
  add(silent: T): void {
    const { fd } = silent;
    check(native().readinessAdd(this.#set, fd), "wait for", `descriptor ${fd}`);
    this.#silent.set(fd, silent);
    this.#sweep ??= setInterval(() => this.#expire(), SWEEP_EVERY).unref();
  }

  /**
   * Owns the descriptors from now on.
   *
   * @throws {HandoverError} `ERR_DESCRIPTOR`: all descriptors stay the caller's
   */
  addAll(silent: readonly T[]): void {
    let added = 0;
    try {
      for (; added < silent.length; added++) this.add(silent[added]!);
    } catch (error) {
      for (const one of silent.slice(0, added)) this.remove(one);
      throw error;
    }
  }

  /** Returns the descriptor to the caller; false if it is not watched. */
  remove(silent: T): boolean {
    if (this.#silent.get(silent.fd) !== silent) return false;
    this.#silent.delete(silent.fd);
    native().readinessRemove(this.#set, silent.fd);
    if (this.#silent.size === 0) {
      clearInterval(this.#sweep);
      this.#sweep = undefined;
    }
    return true;
  }

  /** Closes every descriptor that is left. */
  close(): void {
    clearInterval(this.#sweep);
    this.#watcher.close();
    native().close(this.#set);
    for (const fd of this.#silent.keys()) native().close(fd);
    this.#silent.clear();
  }

  /** The addon returns some at a time; the set stays readable while there are more. Returns how many it took. */
  #takeReady(): number {
    const ready = native().readinessTake(this.#set);
    if (typeof ready === "number") return 0;
    for (const fd of ready) {
      const silent = this.#silent.get(fd);
      if (silent !== undefined && this.remove(silent)) this.#listener.spoke(silent);
    }
    return ready.length;
  }

  /** A timer runs before input that arrived while this process was busy: a client that spoke in time is not expired. */
  #expire(): void {
    while (this.#takeReady() > 0);
    const time = performance.now();
    for (const silent of this.#silent.values()) {
      if (silent.deadline <= time && this.remove(silent)) this.#listener.expired(silent);
    }
  }
}

/** ms: a connection may be silent for this much longer. */
const SWEEP_EVERY = 1_000;
