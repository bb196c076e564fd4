import { builtins } from "../platform/builtins.js";
import { closeAll } from "../platform/descriptors.js";
import { filledSize, type Message, type Topic } from "../channel/messages.js";
import { batches } from "../util/batches.js";
import type { Exchange, Offered, QueryHandler, DeliveryHandler } from "./exchange.js";
import { Inbox } from "./inbox.js";
import { Queries } from "./queries.js";
import { Outbox, type Link } from "./outbox.js";
import type { Parcel, Peer } from "./parcel.js";

/** The exchange between two generations on this host: over their channel, descriptors included. */
export class LocalExchange implements Exchange {
  readonly window = 50;
  readonly #link: Link;
  readonly #outbox: Outbox;
  readonly #inbox: Inbox;
  readonly #queries: Queries;
  readonly #handlers = new Map<string, DeliveryHandler>();
  #peer: Peer;
  /** The subscriptions of the other end. */
  #topics: readonly Topic[] = [];
  /** Those of a message that others follow. */
  #firstTopics: readonly Topic[] = [];
  /** The id of a {@link changeReader} that the other end has not acknowledged yet. */
  #readerChange: string | undefined;
  #isOpen = true;
  #isSending = false;

  /**
   * @param peer at the other end
   * @param nextFence for parcels that are taken here
   */
  constructor(link: Link, peer: Peer, nextFence: () => number) {
    this.#link = link;
    this.#peer = peer;
    this.#outbox = new Outbox(link, () => this.#peer);
    this.#queries = new Queries(link);
    this.#inbox = new Inbox({
      handler: (kind, label) =>
        this.#handlers.get(topicKey(kind, label)) ?? this.#handlers.get(topicKey(kind)),
      nextFence,
      peer: () => this.#peer,
      maxSize: link.maxSize,
      settled: (results) => void link.send({ type: "settle", results }),
    });
  }

  peers(kind: string, label?: string): readonly Peer[] {
    const isMeant = (topic: Topic): boolean =>
      topic.kind === kind && (label === undefined || topic.label === undefined || topic.label === label);
    // A failed send shows that the other end has closed before the channel reports its end.
    const isThere = this.#isOpen && this.#outbox.isOpen;
    return isThere && this.#topics.some(isMeant) ? [this.#peer] : [];
  }

  offer(parcels: readonly Parcel[]): readonly Offered[] {
    return this.#outbox.offer(parcels);
  }

  subscribe(kind: string, label: string | undefined, take: DeliveryHandler): () => void {
    const key = topicKey(kind, label);
    this.#handlers.set(key, take);
    this.#sendSubscriptions();
    return () => {
      if (this.#handlers.get(key) !== take) return;
      this.#handlers.delete(key);
      this.#sendSubscriptions();
    };
  }

  onQuery(kind: string, handler: QueryHandler): void {
    this.#queries.onQuery(kind, handler);
  }

  async peek(kind: string, label: string): Promise<Parcel | undefined> {
    return this.#queries.peek({ kind, label });
  }

  async expedite(kind: string, label: string, id: string): Promise<boolean> {
    return this.#queries.expedite({ kind, label }, id);
  }

  /** A message of the channel; false if it is not for an exchange. */
  receive(message: Message, fds: number[], body: Uint8Array): boolean {
    switch (message.type) {
      case "offer":
        if (this.#readerChange !== undefined) closeAll(fds);
        else this.#inbox.receiveOffer(message.parcels, fds, body);
        return true;
      case "settle":
        this.#outbox.receiveResults(message.results);
        break;
      case "withdraw":
        this.#inbox.withdraw(message.numbers);
        break;
      case "subscriptions":
        this.#receiveTopics(message);
        break;
      case "reader-changed":
        this.#onReaderChanged(message);
        break;
      case "reader-changed-ack":
        if (this.#readerChange === message.id) this.#readerChange = undefined;
        break;
      default:
        return this.#queries.receive(message, fds, body);
    }
    closeAll(fds);
    return true;
  }

  /**
   * Reads the channel in place of another process: the predecessor of `reader`, or its successor if that is `lost`.
   * Parcels that the other process has not settled are their owner's again; offers that were sent before the owner knows of
   * the change are void.
   */
  changeReader(reader: Peer, lost: boolean): void {
    this.#readerChange = builtins.crypto.randomUUID();
    const [topics = [], ...others] = this.#subscribedTopics();
    this.#link.send({ type: "reader-changed", id: this.#readerChange, lost, reader, topics });
    if (others.length > 0) this.#sendSubscriptions();
  }

  /** Another process reads from now on. */
  stopReading(): void {
    this.#inbox.abandon();
  }

  /** A rollback is impossible: parcels that the other end took stay there. */
  confirm(): void {
    this.#outbox.confirm();
  }

  /** The channel has failed, and the other end may live: parcels that were sent wait for {@link end} or {@link lose}. */
  fail(unsent: readonly Message[]): void {
    this.#isOpen = false;
    this.#queries.end();
    this.#outbox.fail(
      unsent.flatMap((message) =>
        message.type === "offer" ? message.parcels.map(({ number }) => number) : [],
      ),
    );
  }

  /** The channel has failed, and the other end lives on: it may have the parcels that were sent. */
  lose(): void {
    this.#outbox.lose();
  }

  /** The other end has closed, or is not to be asked again: parcels that are not confirmed are their owner's again. */
  end(): void {
    this.#isOpen = false;
    this.#outbox.end();
    this.#inbox.end();
    this.#queries.end();
  }

  #onReaderChanged({ id, lost = false, reader, topics = [] }: Message & { type: "reader-changed" }): void {
    this.#peer = reader ?? this.#peer;
    this.#topics = topics;
    this.#firstTopics = [];
    this.#link.send({ type: "reader-changed-ack", id });
    this.#outbox.changeReader(lost);
  }

  #receiveTopics({ topics, more = false }: Message & { type: "subscriptions" }): void {
    const all = [...this.#firstTopics, ...topics];
    this.#firstTopics = more ? all : [];
    if (!more) this.#topics = all;
  }

  /** In as few parts as fit in a message each. */
  #subscribedTopics(): Topic[][] {
    const topics = [...this.#handlers.keys()].map((key): Topic => {
      const [kind, label] = key.split("\0") as [string, string?];
      return label === undefined ? { kind } : { kind, label };
    });
    const limit = filledSize(this.#link.maxSize);
    return batches(topics, [limit], (topic) => [Buffer.byteLength(JSON.stringify(topic)) + 1]);
  }

  /** Several changes of one turn in one message. */
  #sendSubscriptions(): void {
    if (this.#isSending) return;
    this.#isSending = true;
    queueMicrotask(() => {
      this.#isSending = false;
      const parts = this.#subscribedTopics();
      const last = parts.pop() ?? [];
      for (const topics of parts) this.#link.send({ type: "subscriptions", topics, more: true });
      this.#link.send({ type: "subscriptions", topics: last });
    });
  }
}

/** Labels have no NUL. */
function topicKey(kind: string, label?: string): string {
  return label === undefined ? kind : `${kind}\0${label}`;
}
