import type { Protocol, Tracker } from "./tracker.js";

/**
 * The end of a process's connections. Each is told to close by its protocol; one that is still idle when it is
 * looked at again, {@link LOOK_EVERY} ms later, is closed; at the deadline what is left is destroyed.
 *
 * Idle connections are not closed at once, as a request may be on its way to each: of 200 keep-alive clients,
 * 125 to 169 saw a reset in every upgrade that did.
 */
export class Drain {
  /** Resolves when no connection is left, with the number of those that had to be destroyed. */
  readonly done: Promise<number>;
  readonly #tracker: Tracker;
  readonly #deadline: number;
  readonly #timers: NodeJS.Timeout[] = [];
  #immediate: NodeJS.Immediate | undefined;
  #finish!: (destroyed: number) => void;
  #destroyed = 0;
  readonly #looks = new Map<Protocol, ReadonlyMap<unknown, string>>();

  /** Begins at once. `timeout` is in ms. */
  constructor(tracker: Tracker, timeout: number) {
    this.#tracker = tracker;
    this.#deadline = performance.now() + timeout;
    this.done = new Promise((resolve) => (this.#finish = resolve));
    for (const protocol of tracker.protocols) protocol.setClosing(true);
    if (tracker.size === 0) {
      this.#end();
    } else {
      tracker.onEmpty = () => this.#end();
      this.#look();
      this.#timers.push(setInterval(() => this.#lookSoon(), LOOK_EVERY));
      this.#timers.push(setTimeout(() => (this.#destroyed = tracker.destroyAll()), timeout));
    }
  }

  /** ms until the deadline. */
  get remaining(): number {
    return Math.max(0, Math.round(this.#deadline - performance.now()));
  }

  /** Leaves the connections as they are; {@link done} stays pending. */
  cancel(): void {
    this.#stop();
    for (const protocol of this.#tracker.protocols) protocol.setClosing(false);
  }

  #end(): void {
    this.#stop();
    this.#finish(this.#destroyed);
  }

  #stop(): void {
    this.#tracker.onEmpty = undefined;
    for (const timer of this.#timers) clearTimeout(timer);
    clearImmediate(this.#immediate);
  }

  /** After this turn's input has been read: what has already arrived is not idle. */
  #lookSoon(): void {
    this.#immediate = setImmediate(() => this.#look());
  }

  #look(): void {
    for (const protocol of this.#tracker.protocols) {
      const before = this.#looks.get(protocol);
      const now = protocol.idle();
      this.#looks.set(protocol, now);
      for (const [connection, mark] of now) {
        if (before?.get(connection) === mark) protocol.end(connection);
      }
    }
  }
}

/** ms */
const LOOK_EVERY = 1_000;
