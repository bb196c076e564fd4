import { randomUUID } from "node:crypto";
import { closeMemory, digest, INLINE, readMemory, writeMemory } from "../channel/body.js";
import { closeAll } from "../channel/channel.js";
import type { Message, ParcelHead, Topic } from "../channel/messages.js";
import type { Exchange, Offered, Showcase, Taker } from "./exchange.js";
import { Inbox } from "./inbox.js";
import { headOf, Outbox, type Send } from "./outbox.js";
import type { Parcel, Peer } from "./parcel.js";

/** The exchange between two generations on this host: over their channel, descriptors included. */
export class LocalExchange implements Exchange {
  readonly #send: Send;
  readonly #outbox: Outbox;
  readonly #inbox: Inbox;
  readonly #takers = new Map<string, Taker>();
  readonly #showcases = new Map<string, Showcase>();
  readonly #requests = new Map<number, (answer: Answer | undefined) => void>();
  #peer: Peer;
  /** What the other end takes. */
  #topics: readonly Topic[] = [];
  #asked = 0;
  /** Of a {@link restart} that the other side has not confirmed yet. */
  #restart: string | undefined;
  #isOpen = true;
  #isTelling = false;

  /**
   * @param peer at the other end
   * @param nextFence for what is taken here
   */
  constructor(send: Send, peer: Peer, nextFence: () => number) {
    this.#send = send;
    this.#peer = peer;
    this.#outbox = new Outbox(send, () => this.#peer);
    this.#inbox = new Inbox({
      taker: (kind, label) => this.#takers.get(topicKey(kind, label)) ?? this.#takers.get(topicKey(kind)),
      nextFence,
      settled: (results) => void send({ type: "settle", results }),
    });
  }

  peers(kind: string, label?: string): readonly Peer[] {
    const isMeant = (topic: Topic): boolean =>
      topic.kind === kind && (label === undefined || topic.label === undefined || topic.label === label);
    // That nobody reads any more may be known from a send, before the end of the channel is heard.
    const isThere = this.#isOpen && this.#outbox.isOpen;
    return isThere && this.#topics.some(isMeant) ? [this.#peer] : [];
  }

  offer(parcels: readonly Parcel[]): readonly Offered[] {
    return this.#outbox.offer(parcels);
  }

  serve(kind: string, label: string | undefined, take: Taker): () => void {
    const key = topicKey(kind, label);
    this.#takers.set(key, take);
    this.#tellTopics();
    return () => {
      if (this.#takers.get(key) !== take) return;
      this.#takers.delete(key);
      this.#tellTopics();
    };
  }

  show(kind: string, showcase: Showcase): void {
    this.#showcases.set(kind, showcase);
  }

  async peek(kind: string, label: string): Promise<Parcel | undefined> {
    const answer = await this.#ask((request) => ({ type: "peek", request, topic: { kind, label } }));
    return answer?.copy;
  }

  async claim(kind: string, label: string, id: string): Promise<boolean> {
    const answer = await this.#ask((request) => ({ type: "claim", request, topic: { kind, label }, id }));
    return answer?.held ?? false;
  }

  /** What came over the channel; false for what is no business of an exchange. */
  hear(message: Message, fds: number[], body: Uint8Array): boolean {
    switch (message.type) {
      case "offer":
        if (this.#restart !== undefined) closeAll(fds);
        else this.#inbox.hear(message.parcels, fds, body);
        return true;
      case "answer":
        void this.#hearAnswer(message, fds, body);
        return true;
      case "settle":
        this.#outbox.hear(message.results);
        break;
      case "withdraw":
        this.#inbox.withdraw(message.numbers);
        break;
      case "serves":
        this.#topics = message.topics;
        break;
      case "peek":
      case "claim":
        void this.#answer(message);
        break;
      case "restart":
        this.#startOver(message);
        break;
      case "unsupported":
        // An earlier version has nothing to show.
        if (message.unknown === "peek" || message.unknown === "claim") this.#resolveAll();
        break;
      case "restarted":
        if (this.#restart === message.id) this.#restart = undefined;
        break;
      default:
        return false;
    }
    closeAll(fds);
    return true;
  }

  /**
   * Reads on where somebody else has read: the one before `reader`, or, if that one is `lost`, the one after. What
   * that one has not settled is its owner's again, and what was offered before the owner knows of it is void.
   */
  restart(reader: Peer, lost: boolean): void {
    this.#restart = randomUUID();
    this.#send({ type: "restart", id: this.#restart, lost, reader, topics: this.#served() });
  }

  /** Somebody else reads from now on. */
  handOn(): void {
    this.#inbox.abandon();
  }

  /** What was taken of what was offered here is for good. */
  keep(): void {
    this.#outbox.keep();
  }

  /** The other side is gone, or nobody is to be asked any more: all that is not kept is its owner's again. */
  end(): void {
    this.#isOpen = false;
    this.#outbox.end();
    this.#resolveAll();
  }

  #startOver({ id, lost = false, reader, topics = [] }: Message & { type: "restart" }): void {
    this.#peer = reader ?? this.#peer;
    this.#topics = topics;
    this.#send({ type: "restarted", id });
    this.#outbox.restart(lost);
  }

  #served(): Topic[] {
    return [...this.#takers.keys()].map((key) => {
      const [kind, label] = key.split("\0") as [string, string?];
      return label === undefined ? { kind } : { kind, label };
    });
  }

  /** Several changes of one turn in one message. */
  #tellTopics(): void {
    if (this.#isTelling) return;
    this.#isTelling = true;
    queueMicrotask(() => {
      this.#isTelling = false;
      this.#send({ type: "serves", topics: this.#served() });
    });
  }

  async #ask(ask: (request: number) => Message): Promise<Answer | undefined> {
    if (!this.#isOpen) return undefined;
    const request = this.#asked++;
    const answered = new Promise<Answer | undefined>((resolve) => this.#requests.set(request, resolve));
    if (!this.#send(ask(request))) this.#resolve(request, undefined);
    const timer = setTimeout(() => this.#resolve(request, undefined), ANSWER).unref();
    return answered.finally(() => clearTimeout(timer));
  }

  #resolveAll(): void {
    for (const request of this.#requests.keys()) this.#resolve(request, undefined);
  }

  #resolve(request: number, answer: Answer | undefined): void {
    this.#requests.get(request)?.(answer);
    this.#requests.delete(request);
  }

  async #answer(question: Message & { type: "peek" | "claim" }): Promise<void> {
    const { request, topic } = question;
    const showcase = this.#showcases.get(topic.kind);
    const label = topic.label ?? "";
    if (question.type === "claim") {
      const held = showcase?.claim?.(label, question.id) ?? false;
      this.#send({ type: "answer", request, held });
      return;
    }
    try {
      const copy = await showcase?.peek?.(label);
      if (copy !== undefined) return await this.#sendCopy(request, copy);
    } catch {
      // It cannot be made, or there are no descriptors to send it with: whoever asks does without.
    }
    this.#send({ type: "answer", request, held: false });
  }

  async #sendCopy(request: number, copy: Parcel): Promise<void> {
    const head = headOf(0, copy);
    const { body } = copy;
    if (body.length <= INLINE) {
      this.#send({ type: "answer", request, held: true, copy: { ...head, sha256: digest(body) } }, [], body);
      return;
    }
    const { fd, sha256 } = await writeMemory(body);
    try {
      this.#send({ type: "answer", request, held: true, copy: { ...head, sha256, memory: true } }, [fd]);
    } finally {
      closeMemory(fd, body.length);
    }
  }

  async #hearAnswer(
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

/** Labels have no NUL. */
function topicKey(kind: string, label?: string): string {
  return label === undefined ? kind : `${kind}\0${label}`;
}

/** How long, in ms, the other end may take to answer. */
const ANSWER = 10_000;
