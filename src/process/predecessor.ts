import { Channel } from "../channel/channel.js";
import { closeAll } from "../channel/descriptors.js";
import type { Message, OlderGeneration } from "../channel/messages.js";
import { deferred } from "../util/deferred.js";
import type { HandoverError } from "../errors.js";
import type { Fences } from "../exchange/fencing.js";
import { LocalExchange } from "../exchange/local-exchange.js";
import type { Send } from "../exchange/outbox.js";
import { LATE, within } from "../util/timeout.js";

interface PredecessorListener {
  /** Accept. `older` still drain; their channels are this process's from now on. */
  go(older: Predecessor[], ticketKeys: Record<string, string>): void;
  kept(): void;
  stopping(): void;
  /** This process was only tried, and is to end. */
  rehearsed(): void;
}

export interface Report {
  connections: number;
  /** How many have moved; an earlier version does not tell. */
  handedOver?: number;
  /** ms until what is left is destroyed. */
  remaining: number;
}

/** What a process knows of an older generation that is still alive: of its parent, or of one before it. */
export class Predecessor implements OlderGeneration {
  readonly generation: number;
  readonly pid: number;
  /** Resolves when that process is gone; with the reason if it talked nonsense, and may live on. */
  readonly gone: Promise<HandoverError | undefined>;
  /** On which that process offers what it has. */
  readonly exchange: LocalExchange;
  #isGone = false;
  #isHandedOn = false;
  readonly #channel: Channel;
  readonly #fences: Fences;
  #listener: PredecessorListener | undefined;
  readonly #inquiries = new Set<(report: Report | undefined) => void>();
  readonly #end: (error?: HandoverError) => void;

  constructor(channel: Channel, { generation, pid }: OlderGeneration, fences: Fences) {
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
      this.#settle(undefined);
      resolve(error);
    };
    this.#listen();
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  /** For the parent: what it says goes to `listener`. */
  follow(listener: PredecessorListener): void {
    this.#listener = listener;
  }

  /** Closes its channel: nothing is said or heard any more. */
  leave(): void {
    this.#end();
  }

  announceReady(used: string[]): void {
    this.#channel.send({ type: "ready", used });
  }

  announceStopping(): void {
    this.#channel.send({ type: "stopping" });
  }

  /** How its drain is going; undefined if it does not say within `timeout` ms. */
  async inquire(timeout: number): Promise<Report | undefined> {
    if (!this.#channel.send({ type: "inquire" })) return undefined;
    const { promise, resolve } = deferred<Report | undefined>();
    this.#inquiries.add(resolve);
    const report = await within(timeout, promise);
    this.#inquiries.delete(resolve);
    return report === LATE ? undefined : report;
  }

  announceKept(): void {
    this.#channel.send({ type: "kept" });
  }

  /** Its channel, for the successor to read: here only its end is noticed from now on. */
  handOn(): number {
    this.#isHandedOn = true;
    this.exchange.handOn();
    this.#channel.listenForEnd(this.#end);
    return this.#channel.fd;
  }

  /** This process, the `reader`, reads the channel where an older one has read it. */
  begin(reader: OlderGeneration): void {
    this.exchange.restart(reader, false);
  }

  /** It reads the channel again, if a successor has read it, which has died. */
  resume(reader: OlderGeneration): void {
    if (!this.#isHandedOn) return;
    this.#isHandedOn = false;
    this.#listen();
    this.exchange.restart(reader, true);
    this.announceKept();
  }

  #listen(): void {
    this.#channel.listen({ message: (...message) => this.#hear(...message), end: this.#end });
  }

  #hear(message: Message, fds: number[], body: Uint8Array): void {
    if (this.exchange.hear(message, fds, body)) return;
    const older = message.type === "go" ? message.older.slice(0, fds.length) : [];
    closeAll(fds.slice(older.length));
    switch (message.type) {
      case "go":
        this.#fences.follow(message.fence ?? 0);
        return this.#listener?.go(
          older.map((one, n) => new Predecessor(new Channel(fds[n]!), one, this.#fences)),
          message.ticketKeys ?? {},
        );
      case "kept":
        return this.#listener?.kept();
      case "stopping":
        return this.#listener?.stopping();
      case "rehearsed":
        return this.#listener?.rehearsed();
      case "report":
        return this.#settle(withoutType(message));
      default:
        return undefined;
    }
  }

  #settle(report: Report | undefined): void {
    for (const resolve of this.#inquiries) resolve(report);
  }
}

function withoutType({ type: _, ...report }: Message & { type: "report" }): Report {
  return report;
}
