import type { Clock } from "../util/clock.js";
import { deferred, type Deferred } from "../util/deferred.js";
import { planRebalance } from "./rebalance.js";
import { linkWorkers } from "./worker-link.js";
import type { WorkerProcess } from "./worker-process.js";

/** The service, as its connections are balanced. */
interface RebalanceHost {
  readonly clock: Clock;
  /** Whether nothing else happens to the workers. */
  isIdle(): boolean;
  /** The workers between which connections can move, by index. */
  workers(): ReadonlyMap<number, WorkerProcess>;
}

/** A rebalance that is under way. */
interface Running {
  readonly from: WorkerProcess;
  readonly count: number;
  readonly over: Deferred<void>;
}

/** Looks every second whether a worker has far more connections than another, and lets some move. One rebalance at a time. */
export class Rebalancer {
  readonly #host: RebalanceHost;
  /** When a worker may be asked again whose connections did not move, in ms of the clock. */
  readonly #restsUntil = new WeakMap<WorkerProcess, number>();
  #running: Running | undefined;
  #cancel: () => void = () => {};

  constructor(host: RebalanceHost) {
    this.#host = host;
  }

  start(): void {
    this.#cancel = this.#host.clock.after(LOOK_EVERY, () => {
      this.start();
      this.#look();
    });
  }

  stop(): void {
    this.#cancel();
    this.#running?.from.endRebalance();
  }

  /** Ends the rebalance that is under way. Resolves when it is over. */
  async end(): Promise<void> {
    this.#running?.from.endRebalance();
    await this.#running?.over.promise;
  }

  /** A worker has moved connections. */
  onRebalanced(worker: WorkerProcess, moved: number): void {
    if (this.#running?.from !== worker) return;
    if (moved < this.#running.count / 2) this.#rest(worker);
    this.#end(this.#running);
  }

  #look(): void {
    if (this.#running !== undefined || !this.#host.isIdle()) return;
    const workers = this.#host.workers();
    const move = planRebalance(new Map([...workers].map(([index, one]) => [index, one.connections])), MOST);
    if (move === undefined) return;
    const from = workers.get(move.from)!;
    if ((this.#restsUntil.get(from) ?? 0) > this.#host.clock.now()) return;
    this.#begin(from, workers.get(move.to)!, move.count);
  }

  #begin(from: WorkerProcess, to: WorkerProcess, count: number): void {
    const running = { from, count, over: deferred<void>() };
    try {
      linkWorkers(from, to, (fd) => from.rebalance(to, count, fd));
    } catch {
      // No descriptor is free: it can wait.
      return this.#rest(from);
    }
    this.#running = running;
    const cancel = this.#host.clock.after(LONGEST, () => {
      this.#rest(from);
      this.#end(running);
    });
    void from.dead.then(() => this.#end(running));
    void running.over.promise.then(cancel);
  }

  #end(running: Running): void {
    if (this.#running === running) this.#running = undefined;
    running.over.resolve();
  }

  #rest(worker: WorkerProcess): void {
    this.#restsUntil.set(worker, this.#host.clock.now() + REST);
  }
}

/** ms */
const LOOK_EVERY = 1_000;

/** Connections that move in one rebalance, and so in one second. */
const MOST = 250;

/** ms in which a worker has to answer: it waits for at most 3.5 s itself. */
const LONGEST = 5_000;

/** ms. Connections that do not move, as those over TLS, would be tried every second. */
const REST = 10_000;
