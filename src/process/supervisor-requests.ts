import type { Channel } from "../channel/channel.js";
import type { Message, Operation } from "../channel/messages.js";
import { HandoverError, type ErrorCode } from "../errors.js";
import { closeAll } from "../platform/descriptors.js";
import type { InventoryItem } from "../sockets/inventory.js";
import { deferred, type Deferred } from "../util/deferred.js";

/** What a worker asks its supervisor to open. */
export type OpenRequest = Omit<Message & { type: "open" }, "type" | "request">;

/** What a worker asks its supervisor for. Each request is answered, or rejects at the end of the control link. */
export class SupervisorRequests {
  readonly #channel: Channel;
  /** Requests that the supervisor has not answered yet. */
  readonly #pending = new Map<number, Deferred<Answer>>();
  #last = 0;

  constructor(channel: Channel) {
    this.#channel = channel;
  }

  /**
   * The listener of this name and address. Its owner is the supervisor; the descriptor is the caller's to close.
   *
   * @throws {HandoverError} `ERR_LISTEN`, `ERR_STOPPED`
   */
  async open(request: OpenRequest): Promise<Omit<InventoryItem, "name">> {
    const { fds, ...answer } = await this.#request((number) => ({
      type: "open",
      request: number,
      ...request,
    }));
    const [fd] = fds;
    if (fd === undefined || answer.entry === undefined) throw errorOf(answer, "ERR_LISTEN");
    const { name: _, ...entry } = answer.entry;
    return { ...entry, fd };
  }

  /**
   * Asks for an operation of the whole service. Resolves with its result.
   *
   * @param signal gives up, where the operation can still be given up
   * @throws {HandoverError} as the operation; `ERR_STOPPED`
   */
  async ask(
    operation: Operation,
    options: { ttl?: number; force?: boolean } = {},
    signal?: AbortSignal,
  ): Promise<Record<string, unknown>> {
    let request = 0;
    const answering = this.#request((number) => {
      request = number;
      return { type: "ask", request: number, operation, ...options };
    });
    const cancel = (): void => {
      const message =
        signal?.reason instanceof HandoverError ? signal.reason.message : "the upgrade was aborted";
      this.#channel.send({ type: "cancel", request, message });
    };
    if (signal?.aborted) cancel();
    signal?.addEventListener("abort", cancel, { once: true });
    const { fds, ...answer } = await answering.finally(() => signal?.removeEventListener("abort", cancel));
    closeAll(fds);
    if (answer.result === undefined) throw errorOf(answer, "ERR_INTERNAL");
    return answer.result;
  }

  /**
   * Asks the directory of the service's units.
   *
   * @throws {HandoverError} `ERR_STOPPED`
   */
  async askDirectory(message: (number: number) => Message): Promise<NonNullable<Answer["results"]>> {
    const answer = await this.#request(message);
    if (answer.results === undefined) throw errorOf(answer, "ERR_INTERNAL");
    return answer.results;
  }

  /** @param fds beside the answer; they are the request's, or closed if it is not known */
  answered(message: Message & { type: "opened" | "asked" | "owned" }, fds: number[]): void {
    this.#answer(message.request, { ...message, fds });
  }

  /** The supervisor is gone. */
  end(): void {
    for (const number of this.#pending.keys()) this.#answer(number, SUPERVISOR_GONE);
  }

  async #request(message: (number: number) => Message): Promise<Answer> {
    const number = ++this.#last;
    const answer = deferred<Answer>();
    this.#pending.set(number, answer);
    if (!this.#channel.send(message(number))) this.#answer(number, SUPERVISOR_GONE);
    return answer.promise;
  }

  #answer(number: number, answer: Answer): void {
    const request = this.#pending.get(number);
    if (request === undefined) return closeAll(answer.fds);
    this.#pending.delete(number);
    request.resolve(answer);
  }
}

/** The answer to a request, with the descriptors beside it. */
type Answer = Partial<
  Pick<Message & { type: "opened" }, "entry" | "code" | "message"> &
    Pick<Message & { type: "asked" }, "result"> &
    Pick<Message & { type: "owned" }, "results">
> & { fds: number[] };

const SUPERVISOR_GONE: Answer = { fds: [], code: "ERR_STOPPED", message: "the supervisor is gone" };

function errorOf({ code, message }: Omit<Answer, "fds">, otherwise: ErrorCode): HandoverError {
  return new HandoverError((code ?? otherwise) as ErrorCode, message ?? "the supervisor did not say why");
}
