import { Channel } from "../channel/channel.js";
import { closeAll } from "../platform/descriptors.js";
import type { Message, Peer } from "../channel/messages.js";
import { deferred } from "../util/deferred.js";
import type { HandoverError } from "../errors.js";
import type { FencingTokens } from "../exchange/fencing.js";
import { LocalExchange } from "../exchange/local-exchange.js";
import type { Send } from "../exchange/outbox.js";
import { TIMED_OUT, withTimeout } from "../util/timeout.js";

interface PredecessorListener {
  /** Accept. `others` still drain; their channels are this process's from now on. */
  commit(others: Predecessor[], ticketKeys: Record<string, string>): void;
  confirmed(): void;
  stopping(): void;
  /** This process was only tried, and is to end. */
  rehearsed(): void;
}

export interface DrainProgress {
  connections: number;
  /** How many have moved; an earlier version does not tell. */
  moved?: number;
  /** ms until what is left is destroyed. */
  remaining: number;
}

/** What a process knows of an older generation that is still alive: of its parent, or of one before it. */
export class Predecessor implements Peer {
  readonly generation: number;
  readonly pid: number;
  /** Resolves when that process is gone; with the reason if it talked nonsense, and may live on. */
  readonly gone: Promise<HandoverError | undefined>;
  /** On which that process offers what it has. */
  readonly exchange: LocalExchange;
  #isGone = false;
  #isPassedOn = false;
  readonly #channel: Channel;
  readonly #fences: FencingTokens;
  #listener: PredecessorListener | undefined;
  readonly #queries = new Set<(report: DrainProgress | undefined) => void>();
  readonly #end: (error?: HandoverError) => void;

  constructor(channel: Channel, { generation, pid }: Peer, fences: FencingTokens) {
    this.#channel = channel;
    this.#fences = fences;
    const send: Send = (...message) => channel.send(...message);
    this.exchange = new LocalExchange(send, { generation, pid }, () => fences.next());
    this.generation = generation;
    this.pid = pid;
    const { promise, resolve } = deferred<HandoverError | undefined>();
    this.gone = promise;
    this.#end = (error) => {
      this.#isGone = true;
      this.exchange.end();
      channel.close();
      this.#resolveQueries(undefined);
      resolve(error);
    };
    this.#listen();
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  /** For the parent: what it says goes to `listener`. */
  subscribe(listener: PredecessorListener): void {
    this.#listener = listener;
  }

  /** Closes its channel: nothing is said or heard any more. */
  close(): void {
    this.#end();
  }

  sendReady(used: string[]): void {
    this.#channel.send({ type: "ready", used });
  }

  sendStopping(): void {
    this.#channel.send({ type: "stopping" });
  }

  /** How its drain is going; undefined if it does not say within `timeout` ms. */
  async queryProgress(timeout: number): Promise<DrainProgress | undefined> {
    if (!this.#channel.send({ type: "progress-query" })) return undefined;
    const { promise, resolve } = deferred<DrainProgress | undefined>();
    this.#queries.add(resolve);
    const report = await withTimeout(timeout, promise);
    this.#queries.delete(resolve);
    return report === TIMED_OUT ? undefined : report;
  }

  sendConfirmed(): void {
    this.#channel.send({ type: "confirmed" });
  }

  /** Its channel, for the successor to read: here only its end is noticed from now on. */
  passChannelOn(): number {
    this.#isPassedOn = true;
    this.exchange.stopReading();
    this.#channel.listenForEnd(this.#end);
    return this.#channel.fd;
  }

  /** This process, the `reader`, reads the channel where an older one has read it. */
  takeChannelOver(reader: Peer): void {
    this.exchange.changeReader(reader, false);
  }

  /** It reads the channel again, if a successor has read it, which has died. */
  readAgain(reader: Peer): void {
    if (!this.#isPassedOn) return;
    this.#isPassedOn = false;
    this.#listen();
    this.exchange.changeReader(reader, true);
    this.sendConfirmed();
  }

  #listen(): void {
    this.#channel.listen({ message: (...message) => this.#receive(...message), end: this.#end });
  }

  #receive(message: Message, fds: number[], body: Uint8Array): void {
    if (this.exchange.receive(message, fds, body)) return;
    const others = message.type === "commit" ? message.predecessors.slice(0, fds.length) : [];
    closeAll(fds.slice(others.length));
    switch (message.type) {
      case "commit":
        this.#fences.advanceTo(message.fence ?? 0);
        return this.#listener?.commit(
          others.map((one, n) => new Predecessor(new Channel(fds[n]!), one, this.#fences)),
          message.ticketKeys ?? {},
        );
      case "confirmed":
        return this.#listener?.confirmed();
      case "stopping":
        return this.#listener?.stopping();
      case "rehearsed":
        return this.#listener?.rehearsed();
      case "progress":
        return this.#resolveQueries(withoutType(message));
      default:
        return undefined;
    }
  }

  #resolveQueries(report: DrainProgress | undefined): void {
    for (const resolve of this.#queries) resolve(report);
  }
}

function withoutType({ type: _, ...report }: Message & { type: "progress" }): DrainProgress {
  return report;
}
