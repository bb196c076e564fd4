import type { Clock } from "../util/clock.js";
import { report } from "./report.js";
import type { WorkerProcess } from "./worker-process.js";

/** The service, as the watch of its memory uses it. */
interface MemoryHost {
  readonly clock: Clock;
  /** In bytes; undefined: no limit. */
  readonly maxMemory: number | undefined;
  /** The workers that serve. */
  workers(): Iterable<WorkerProcess>;
  /** In bytes; undefined if it has exited. */
  memoryOf(pid: number): number | undefined;
  /** Replaces a worker by a new one. Resolves at the end; undefined: not now. */
  renew(worker: WorkerProcess, why: string): Promise<void> | undefined;
}

/** Replaces each worker that has more memory than the limit, one at a time: its connections move to the new one. */
export class MemoryWatch {
  readonly #host: MemoryHost;
  /** Workers that were over the limit at their start: so would be the next one. */
  readonly #startedOver = new WeakSet<WorkerProcess>();
  /** When the worker of an index was to be replaced last, in ms of the clock. */
  readonly #renewed = new Map<number, number>();
  #isStopped = false;
  #cancel: () => void = () => {};

  constructor(host: MemoryHost) {
    this.#host = host;
  }

  start(): void {
    if (this.#host.maxMemory !== undefined) this.#next();
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel();
  }

  /** A worker has begun to accept. */
  begin(worker: WorkerProcess): void {
    const memory = this.#excessOf(worker);
    if (memory === undefined) return;
    this.#startedOver.add(worker);
    report(`${nameOf(worker)} ${memory} at its start: raise --max-memory; it is not replaced`);
  }

  #next(): void {
    // A stop may have come during a replacement.
    if (this.#isStopped) return;
    this.#cancel = this.#host.clock.after(LOOK_EVERY, () => void this.#look().then(() => this.#next()));
  }

  async #look(): Promise<void> {
    const host = this.#host;
    for (const worker of host.workers()) {
      const excess = this.#startedOver.has(worker) ? undefined : this.#excessOf(worker);
      const last = this.#renewed.get(worker.index) ?? -Infinity;
      if (excess === undefined || host.clock.now() - last < AT_MOST_EVERY) continue;
      const renewing = host.renew(worker, excess);
      if (renewing === undefined) return;
      this.#renewed.set(worker.index, host.clock.now());
      await renewing;
    }
  }

  /** What a worker has over the limit, in words; undefined if it is within it. */
  #excessOf({ pid }: WorkerProcess): string | undefined {
    const { maxMemory } = this.#host;
    const memory = maxMemory === undefined ? undefined : this.#host.memoryOf(pid);
    if (memory === undefined || memory <= maxMemory!) return undefined;
    return `has ${inMebibytes(memory)} MiB of memory, over its limit of ${inMebibytes(maxMemory!)} MiB`;
  }
}

function nameOf({ index, pid }: WorkerProcess): string {
  return `worker ${index} (pid ${pid})`;
}

function inMebibytes(bytes: number): number {
  return Math.round(bytes / 2 ** 20);
}

/** ms between two looks at the memory. */
const LOOK_EVERY = 10_000;

/** ms between two replacements of the worker of one index. */
const AT_MOST_EVERY = 60_000;
