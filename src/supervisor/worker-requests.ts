import type { Operation } from "../channel/messages.js";
import { HandoverError, toHandoverError } from "../errors.js";
import type { ServiceListeners } from "./service-listeners.js";
import type { WorkerProcess, WorkerRequest } from "./worker-process.js";

/** Performs an operation of the service. */
export type Perform = (
  operation: Operation,
  ttl: number | undefined,
  signal: AbortSignal,
) => Promise<Record<string, unknown>>;

/** What workers ask for: listeners, and operations of the whole service. Each is answered. */
export class WorkerRequests {
  readonly #listeners: ServiceListeners;
  readonly #perform: Perform;
  /** Operations that are under way, and can be taken back. */
  readonly #running = new WeakMap<WorkerProcess, Map<number, AbortController>>();

  constructor(listeners: ServiceListeners, perform: Perform) {
    this.#listeners = listeners;
    this.#perform = perform;
  }

  receive(worker: WorkerProcess, request: WorkerRequest): void {
    switch (request.type) {
      case "open":
        return void this.#open(worker, request);
      case "ask":
        return void this.#answer(worker, request);
      case "cancel":
        return this.#running
          .get(worker)
          ?.get(request.request)
          ?.abort(new HandoverError("ERR_ABORTED", request.message));
    }
  }

  async #open(worker: WorkerProcess, { request, ...wish }: WorkerRequest & { type: "open" }): Promise<void> {
    try {
      const { fd, ...entry } = await this.#listeners.open(worker.index, wish);
      worker.answer({ type: "opened", request, entry }, fd);
    } catch (error) {
      const { code, message } = toHandoverError(error, "ERR_LISTEN", `listen on ${wish.name}`);
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
