import { closeMemory, digest, readMemory, writeMemory } from "./memory-file.js";
import { closeAll } from "../platform/descriptors.js";
import type { Message, ParcelHead, Topic } from "../channel/messages.js";
import type { QueryHandler } from "./exchange.js";
import { headOf, isInline, type Link } from "./outbox.js";
import type { Parcel } from "./parcel.js";

/** The queries of the two ends of a channel for each other's parcels. */
export class Queries {
  readonly #link: Link;
  readonly #handlers = new Map<string, QueryHandler>();
  readonly #requests = new Map<number, (answer: Answer | undefined) => void>();
  /** Not from 0: answers to another generation, which has read the same channel before, may still arrive. */
  #asked = Math.floor(Math.random() * 2 ** 47);
  #isOpen = true;

  constructor(link: Link) {
    this.#link = link;
  }

  onQuery(kind: string, handler: QueryHandler): void {
    this.#handlers.set(kind, handler);
  }

  async peek(topic: Topic): Promise<Parcel | undefined> {
    const answer = await this.#ask((request) => ({ type: "peek", request, topic }));
    return answer?.copy;
  }

  async expedite(topic: Topic, id: string): Promise<boolean> {
    const answer = await this.#ask((request) => ({ type: "expedite", request, topic, id }));
    return answer?.held ?? false;
  }

  /** A message of the channel; false if it is no query or answer. */
  receive(message: Message, fds: number[], body: Uint8Array): boolean {
    switch (message.type) {
      case "answer":
        void this.#receiveAnswer(message, fds, body);
        return true;
      case "peek":
      case "expedite":
        closeAll(fds);
        void this.#answer(message);
        return true;
      case "unsupported":
        // An earlier version does not answer queries.
        if (message.unknown === "peek" || message.unknown === "expedite") this.#resolveAll();
        closeAll(fds);
        return true;
      default:
        return false;
    }
  }

  /** The other end has closed. */
  end(): void {
    this.#isOpen = false;
    this.#resolveAll();
  }

  #resolveAll(): void {
    for (const request of this.#requests.keys()) this.#resolve(request, undefined);
  }

  async #ask(ask: (request: number) => Message): Promise<Answer | undefined> {
    if (!this.#isOpen) return undefined;
    const request = this.#asked++;
    const answered = new Promise<Answer | undefined>((resolve) => this.#requests.set(request, resolve));
    if (!this.#link.send(ask(request))) this.#resolve(request, undefined);
    // A process that does not answer is alive, and may hold the parcel.
    const timer = setTimeout(() => this.#resolve(request, { held: true }), ANSWER_TIMEOUT).unref();
    return answered.finally(() => clearTimeout(timer));
  }

  #resolve(request: number, answer: Answer | undefined): void {
    this.#requests.get(request)?.(answer);
    this.#requests.delete(request);
  }

  async #answer(question: Message & { type: "peek" | "expedite" }): Promise<void> {
    const { request, topic } = question;
    const handler = this.#handlers.get(topic.kind);
    const label = topic.label ?? "";
    if (question.type === "expedite") {
      const held = handler?.expedite?.(label, question.id) ?? false;
      this.#link.send({ type: "answer", request, held });
      return;
    }
    try {
      const copy = await handler?.peek?.(label);
      if (copy !== undefined) return await this.#sendCopy(request, copy);
    } catch {
      // The copy cannot be made or sent. The other end continues without it.
    }
    this.#link.send({ type: "answer", request, held: false });
  }

  async #sendCopy(request: number, copy: Parcel): Promise<void> {
    const { body } = copy;
    if (isInline(copy, this.#link.maxSize)) {
      const head = headOf(0, copy, digest(body));
      this.#link.send({ type: "answer", request, held: true, copy: head }, [], body);
      return;
    }
    const { fd, sha256 } = await writeMemory(body);
    try {
      const head = { ...headOf(0, copy, sha256), memory: true };
      this.#link.send({ type: "answer", request, held: true, copy: head }, [fd]);
    } finally {
      closeMemory(fd, body.length);
    }
  }

  async #receiveAnswer(
    { request, held, copy }: Message & { type: "answer" },
    fds: number[],
    body: Uint8Array,
  ): Promise<void> {
    const bytes = copy === undefined ? undefined : await verify(copy, fds, body).catch(() => undefined);
    for (const fd of fds) closeMemory(fd, copy?.size ?? 0);
    if (copy === undefined || bytes === undefined) return this.#resolve(request, { held });
    const { kind, label, id, version, codec } = copy;
    return this.#resolve(request, { held, copy: { kind, label, id, version, codec, body: bytes, fds: [] } });
  }
}

interface Answer {
  held: boolean;
  copy?: Parcel;
}

async function verify(
  { size, sha256, memory }: ParcelHead,
  [fd]: number[],
  body: Uint8Array,
): Promise<Uint8Array | undefined> {
  if (memory !== true) return digest(body) === sha256 ? body : undefined;
  const read = fd === undefined ? undefined : await readMemory(fd, size);
  return read?.sha256 === sha256 ? read.bytes : undefined;
}

/** How long, in ms, the other end may take to answer. */
const ANSWER_TIMEOUT = 10_000;
