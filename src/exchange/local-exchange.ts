import { randomUUID } from "node:crypto";
import { closeAll } from "../platform/descriptors.js";
import type { Message, Topic } from "../channel/messages.js";
import type { Exchange, Offered, QueryHandler, DeliveryHandler } from "./exchange.js";
import { Inbox } from "./inbox.js";
import { Queries } from "./queries.js";
import { Outbox, type Send } from "./outbox.js";
import type { Parcel, Peer } from "./parcel.js";

/** The exchange between two generations on this host: over their channel, descriptors included. */
export class LocalExchange implements Exchange {
  readonly #send: Send;
  readonly #outbox: Outbox;
  readonly #inbox: Inbox;
  readonly #queries: Queries;
  readonly #handlers = new Map<string, DeliveryHandler>();
  #peer: Peer;
  /** The subscriptions of the other end. */
  #topics: readonly Topic[] = [];
  /** The id of a {@link changeReader} that the other end has not acknowledged yet. */
  #readerChange: string | undefined;
  #isOpen = true;
  #isSending = false;

  /**
   * @param peer at the other end
   * @param nextFence for parcels that are taken here
   */
  constructor(send: Send, peer: Peer, nextFence: () => number) {
    this.#send = send;
    this.#peer = peer;
    this.#outbox = new Outbox(send, () => this.#peer);
    this.#queries = new Queries(send);
    this.#inbox = new Inbox({
      handler: (kind, label) =>
        this.#handlers.get(topicKey(kind, label)) ?? this.#handlers.get(topicKey(kind)),
      nextFence,
      settled: (results) => void send({ type: "settle", results }),
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
        this.#topics = message.topics;
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
    this.#readerChange = randomUUID();
    this.#send({
      type: "reader-changed",
      id: this.#readerChange,
      lost,
      reader,
      topics: this.#subscribedTopics(),
    });
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
    this.#queries.end();
  }

  #onReaderChanged({ id, lost = false, reader, topics = [] }: Message & { type: "reader-changed" }): void {
    this.#peer = reader ?? this.#peer;
    this.#topics = topics;
    this.#send({ type: "reader-changed-ack", id });
    this.#outbox.changeReader(lost);
  }

  #subscribedTopics(): Topic[] {
    return [...this.#handlers.keys()].map((key) => {
      const [kind, label] = key.split("\0") as [string, string?];
      return label === undefined ? { kind } : { kind, label };
    });
  }

  /** Several changes of one turn in one message. */
  #sendSubscriptions(): void {
    if (this.#isSending) return;
    this.#isSending = true;
    queueMicrotask(() => {
      this.#isSending = false;
      this.#send({ type: "subscriptions", topics: this.#subscribedTopics() });
    });
  }
}

/** Labels have no NUL. */
function topicKey(kind: string, label?: string): string {
  return label === undefined ? kind : `${kind}\0${label}`;
}
