import { Channel } from "../channel/channel.js";
import type { Peer } from "../channel/messages.js";
import { LocalExchange } from "../exchange/local-exchange.js";
import { closeAll } from "../platform/descriptors.js";
import { deferred } from "../util/deferred.js";
import type { DrainProgress, Predecessor } from "./predecessor.js";

/**
 * A worker's link to its successor: parcels go over it, and the channels to older generations. The supervisor decides when.
 * The other end is a {@link Predecessor}.
 */
export class ExchangeLink {
  readonly generation: number;
  readonly pid: number;
  /** The exchange on which this process offers parcels. */
  readonly exchange: LocalExchange;
  /** Resolves when the channel has ended or is closed. */
  readonly gone: Promise<void>;
  /** Resolves when the other worker has said what it takes: a drain that begins earlier would find no taker. */
  readonly subscribed: Promise<void>;
  readonly #channel: Channel;
  readonly #gone = deferred<void>();
  readonly #subscribed = deferred<void>();

  /** @param progress of this process's drain, for the successor's queries */
  constructor(fd: number, { generation, pid }: Peer, progress: () => DrainProgress) {
    this.generation = generation;
    this.pid = pid;
    this.#channel = new Channel(fd);
    this.exchange = new LocalExchange(this.#channel, { generation, pid }, needsNoFence);
    this.gone = this.#gone.promise;
    this.subscribed = this.#subscribed.promise;
    this.#channel.listen({
      message: (message, fds, body) => {
        const isOfExchange = this.exchange.receive(message, fds, body);
        if (message.type === "subscriptions") this.#subscribed.resolve();
        if (isOfExchange) return;
        closeAll(fds);
        if (message.type === "confirmed") this.exchange.confirm();
        if (message.type === "progress-query") this.#channel.send({ type: "progress", ...progress() });
      },
      // The successor may have the connections that were sent, and lives: they do not continue here.
      fail: (_, unsent) => {
        this.exchange.fail(unsent);
        this.exchange.lose();
      },
      end: (error) => {
        // One that broke the protocol lives, too.
        if (error !== undefined) this.exchange.lose();
        this.#end();
      },
    });
  }

  /**
   * Gives the channels to generations that still drain to the successor, and this process's last fence: those of what moves
   * are above it.
   */
  passOn(predecessors: readonly Predecessor[], fence: number): void {
    const peers = predecessors.map(({ generation, pid }) => ({ generation, pid }));
    this.#channel.send(
      { type: "commit", predecessors: peers, fence },
      predecessors.map((one) => one.passChannelOn()),
    );
  }

  /** The successor is dead: what it has not settled is this process's again. */
  close(): void {
    // Its last settlements may have arrived, and were not read yet.
    this.#channel.readNow();
    this.#channel.close();
    this.#end();
  }

  #end(): void {
    this.exchange.end();
    this.#subscribed.resolve();
    this.#gone.resolve();
  }
}

/** Nothing is taken from a successor, so nothing of it needs a fence. */
const needsNoFence = (): number => 0;
