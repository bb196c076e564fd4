import { Channel } from "../channel/channel.js";
import { closeAll } from "../platform/descriptors.js";
import type { Message, Peer } from "../channel/messages.js";
import { deferred } from "../util/deferred.js";
import type { HandoverError } from "../errors.js";
import type { FencingTokens } from "../exchange/fencing.js";
import { LocalExchange } from "../exchange/local-exchange.js";
import { TIMED_OUT, withTimeout } from "../util/timeout.js";
import type { ControlLink } from "./control-link.js";

/** The messages of the direct predecessor. */
export interface PredecessorListener {
  /** This process is to accept. The `others` still drain; their channels are this process's from now on. */
  commit(others: Predecessor[], ticketKeys: Record<string, string>): void;
  confirmed(): void;
  stopping(): void;
  /** A later upgrade commits this process, within `ttl` ms. It answers that it is ready. */
  stage(ttl: number): void;
  /** This process was started by a rehearsal, and is to exit. */
  rehearsed(): void;
}

/** The progress of a drain. */
export interface DrainProgress {
  connections: number;
  /** Connections that have moved; an earlier version does not send it. */
  moved?: number;
  /** ms until the remaining connections are destroyed. */
  remaining: number;
  /** Whether that process only waits until a rollback is impossible; an earlier version does not send it. */
  drained?: boolean;
}

/**
 * An older generation that is still alive: the direct predecessor, or one before it. Parcels come from it. The direct one is
 * also the process that decides when this one accepts, unless that is a supervisor.
 */
export class Predecessor implements ControlLink, Peer {
  readonly generation: number;
  readonly pid: number;
  /** Resolves when that process is gone; with an error if it broke the protocol, and may still live. */
  readonly gone: Promise<HandoverError | undefined>;
  /** Resolves if the channel fails. That process may live: {@link gone} says when it does not. */
  readonly failed: Promise<HandoverError>;
  /** The exchange on which that process offers parcels. */
  readonly exchange: LocalExchange;
  #isGone = false;
  #isPassedOn = false;
  readonly #channel: Channel;
  readonly #fences: FencingTokens;
  #listener: PredecessorListener | undefined;
  readonly #queries = new Set<(progress: DrainProgress | undefined) => void>();
  readonly #failed = deferred<HandoverError>();
  readonly #end: (error?: HandoverError) => void;

  constructor(channel: Channel, { generation, pid }: Peer, fences: FencingTokens) {
    this.#channel = channel;
    this.#fences = fences;
    this.exchange = new LocalExchange(channel, { generation, pid }, () => fences.next());
    this.generation = generation;
    this.pid = pid;
    const { promise, resolve } = deferred<HandoverError | undefined>();
    this.gone = promise;
    this.failed = this.#failed.promise;
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

  /** Passes the messages of the direct predecessor to `listener` from now on. */
  subscribe(listener: PredecessorListener): void {
    this.#listener = listener;
  }

  /** Reads the messages that have arrived, without waiting for the event loop. */
  readNow(): void {
    this.#channel.readNow();
  }

  /** Closes the channel: that process takes it for the end of this one. */
  leave(): void {
    this.#end();
  }

  sendReady(used: string[]): void {
    this.#channel.send({ type: "ready", used });
  }

  sendCommitAck(): void {
    this.#channel.send({ type: "commit-ack" });
  }

  /** @param inspected whether a debugger may stop this process */
  sendHeartbeat(inspected: boolean): void {
    this.#channel.send({ type: "heartbeat", inspected });
  }

  sendStopping(): void {
    this.#channel.send({ type: "stopping" });
  }

  /** The progress of its drain; undefined if it does not answer within `timeout` ms. */
  async queryProgress(timeout: number): Promise<DrainProgress | undefined> {
    if (!this.#channel.send({ type: "progress-query" })) return undefined;
    const { promise, resolve } = deferred<DrainProgress | undefined>();
    this.#queries.add(resolve);
    const progress = await withTimeout(timeout, promise);
    this.#queries.delete(resolve);
    return progress === TIMED_OUT ? undefined : progress;
  }

  sendConfirmed(): void {
    this.#channel.send({ type: "confirmed" });
  }

  /** Gives the channel to the successor, which reads it from now on. This process only notices its end. */
  passChannelOn(): number {
    this.#isPassedOn = true;
    this.exchange.stopReading();
    this.#channel.listenForEnd(this.#end);
    return this.#channel.fd;
  }

  /** Reads the channel in this process (`reader`), in place of the one before. */
  takeChannelOver(reader: Peer): void {
    this.exchange.changeReader(reader, false);
  }

  /** Reads the channel in this process (`reader`) again, if a successor read it that has died. */
  readAgain(reader: Peer): void {
    if (!this.#isPassedOn) return;
    this.#isPassedOn = false;
    this.#listen();
    this.exchange.changeReader(reader, true);
    this.sendConfirmed();
  }

  #listen(): void {
    this.#channel.listen({
      message: (message, fds, body) => this.#receive(message, fds, body),
      fail: (error) => {
        this.exchange.fail([]);
        this.#resolveQueries(undefined);
        this.#failed.resolve(error);
      },
      end: this.#end,
    });
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
      case "stage":
        return this.#listener?.stage(message.ttl);
      case "rehearsed":
        return this.#listener?.rehearsed();
      case "progress":
        return this.#resolveQueries(withoutType(message));
      default:
        return undefined;
    }
  }

  #resolveQueries(progress: DrainProgress | undefined): void {
    for (const resolve of this.#queries) resolve(progress);
  }
}

function withoutType({ type: _, ...progress }: Message & { type: "progress" }): DrainProgress {
  return progress;
}
