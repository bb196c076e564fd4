import type { Operation } from "../channel/messages.js";
import { HandoverError, toHandoverError } from "../errors.js";
import { isHeldElsewhere } from "./open-socket.js";
import type { ServiceListeners } from "./service-listeners.js";
import type { UnitDirectory } from "./unit-directory.js";
import type { WorkerProcess } from "./worker-process.js";
import type { WorkerRequest } from "./worker-reports.js";

/** Performs an operation of the service. */
type Perform = (
  operation: Operation,
  ttl: number | undefined,
  signal: AbortSignal,
) => Promise<Record<string, unknown>>;

/** What workers ask for: listeners, units, and operations of the whole service. Each is answered. */
export class WorkerRequests {
  readonly #listeners: ServiceListeners;
  readonly #units: UnitDirectory;
  readonly #perform: Perform;
  readonly #onTaken: (error: HandoverError) => boolean;
  /** Operations that are under way, and can be taken back. */
  readonly #running = new WeakMap<WorkerProcess, Map<number, AbortController>>();

  #pending = 0;

  /** @param onTaken is told that another process holds an address; returns whether the service ends for that: no answer then */
  constructor(
    listeners: ServiceListeners,
    units: UnitDirectory,
    perform: Perform,
    onTaken: (error: HandoverError) => boolean,
  ) {
    this.#listeners = listeners;
    this.#units = units;
    this.#perform = perform;
    this.#onTaken = onTaken;
  }

  /** Whether every request has its answer. */
  get isQuiet(): boolean {
    return this.#pending === 0;
  }

  receive(worker: WorkerProcess, request: WorkerRequest): void {
    switch (request.type) {
      case "open":
        return void this.#count(this.#open(worker, request));
      case "ask":
        return void this.#count(this.#answer(worker, request));
      case "cancel":
        return this.#running
          .get(worker)
          ?.get(request.request)
          ?.abort(new HandoverError("ERR_ABORTED", request.message));
      case "own": {
        const results = this.#units.own(worker, request.kind, request.ids, request.from);
        return worker.answer({ type: "owned", request: request.request, results });
      }
      case "where": {
        const owner = this.#units.where(request.kind, request.id);
        const results = owner === undefined ? [] : [owner];
        return worker.answer({ type: "owned", request: request.request, results });
      }
      case "disown":
        return this.#units.disown(worker, request.kind, request.ids, request.fences);
    }
  }

  async #count(work: Promise<void>): Promise<void> {
    this.#pending++;
    await work.finally(() => this.#pending--);
  }

  async #open(worker: WorkerProcess, { request, ...wish }: WorkerRequest & { type: "open" }): Promise<void> {
    try {
      const { fd, ...entry } = await this.#listeners.open(worker, wish);
      worker.answer({ type: "opened", request, entry }, fd);
    } catch (error) {
      const why = toHandoverError(error, "ERR_LISTEN", `listen on ${wish.name}`);
      if (isHeldElsewhere(error, wish.address) && this.#onTaken(why)) return;
      const { code, message } = why;
      worker.answer({ type: "opened", request, code, message });
    }
  }

  async #answer(
    worker: WorkerProcess,
    { request, operation, ttl }: WorkerRequest & { type: "ask" },
  ): Promise<void> {
    const controller = new AbortController();
    const running = this.#running.get(worker) ?? new Map<number, AbortController>();
    this.#running.set(worker, running.set(request, controller));
    try {
      const result = await this.#perform(operation, ttl, controller.signal);
      worker.answer({ type: "asked", request, result });
    } catch (error) {
      const { code, message } = toHandoverError(error, "ERR_INTERNAL", operation);
      worker.answer({ type: "asked", request, code, message });
    } finally {
      running.delete(request);
    }
  }
}
