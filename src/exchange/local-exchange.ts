import { randomUUID } from "node:crypto";
import { closeAll } from "../channel/descriptors.js";
import type { Message, Topic } from "../channel/messages.js";
import type { Exchange, Offered, Showcase, Taker } from "./exchange.js";
import { Inbox } from "./inbox.js";
import { Inquiries } from "./queries.js";
import { Outbox, type Send } from "./outbox.js";
import type { Parcel, Peer } from "./parcel.js";

/** The exchange between two generations on this host: over their channel, descriptors included. */
export class LocalExchange implements Exchange {
  readonly #send: Send;
  readonly #outbox: Outbox;
  readonly #inbox: Inbox;
  readonly #inquiries: Inquiries;
  readonly #takers = new Map<string, Taker>();
  #peer: Peer;
  /** What the other end takes. */
  #topics: readonly Topic[] = [];
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
    this.#inquiries = new Inquiries(send);
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
    this.#inquiries.show(kind, showcase);
  }

  async peek(kind: string, label: string): Promise<Parcel | undefined> {
    return this.#inquiries.peek({ kind, label });
  }

  async claim(kind: string, label: string, id: string): Promise<boolean> {
    return this.#inquiries.claim({ kind, label }, id);
  }

  /** What came over the channel; false for what is no business of an exchange. */
  hear(message: Message, fds: number[], body: Uint8Array): boolean {
    switch (message.type) {
      case "offer":
        if (this.#restart !== undefined) closeAll(fds);
        else this.#inbox.hear(message.parcels, fds, body);
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
      case "restart":
        this.#startOver(message);
        break;
      case "restarted":
        if (this.#restart === message.id) this.#restart = undefined;
        break;
      default:
        return this.#inquiries.hear(message, fds, body);
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
    this.#inquiries.end();
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
}

/** Labels have no NUL. */
function topicKey(kind: string, label?: string): string {
  return label === undefined ? kind : `${kind}\0${label}`;
}
