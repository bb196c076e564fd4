import type { Channel } from "../channel/channel.js";
import type { Message, Peer, WorkerHosts, WorkerPlace } from "../channel/messages.js";
import type { Departure } from "../events.js";
import { HandoverError, type ErrorCode } from "../errors.js";
import { closeAll } from "../platform/descriptors.js";
import { deferred } from "../util/deferred.js";
import { shorten } from "../util/shorten.js";
import type { InventoryItem } from "../sockets/inventory.js";
import type { Directory } from "../exchange/directory.js";
import type { EngineReport } from "../exchange/hosts.js";
import type { ControlLink } from "./control-link.js";
import { SupervisorDirectory } from "./supervisor-directory.js";
import { SupervisorRequests, type OpenRequest } from "./supervisor-requests.js";

/** The messages of the supervisor. */
export interface SupervisorListener {
  /** This worker is to accept; with the `roles` of the service if no other worker holds them. */
  commit(ticketKeys: Record<string, string>, fence: number, roles: boolean): void;
  confirmed(): void;
  /** A later upgrade commits this worker, within `ttl` ms. */
  stage(ttl: number): void;
  /** This worker was started by a rehearsal, and is to exit. */
  rehearsed(): void;
  /** The link to the next worker of this index, which is being started. */
  successor(fd: number, peer: Peer): void;
  /** The link to a worker that gives what it has to this one, while this one serves. */
  predecessor(fd: number, peer: Peer): void;
  /** Why an upgrade would lose something of this worker; undefined if it would not. */
  check(): HandoverError | undefined;
  /**
   * Release the roles. Resolves when that is done.
   *
   * @param leaves whether no next worker of this index comes
   */
  yield(leaves: boolean): Promise<void>;
  /** Stop accepting in this turn. Returns the last fence. */
  cease(successor: Peer): number;
  retire(): void;
  /** The upgrade has failed, for this reason. Resolves when this worker accepts again. */
  resume(reason: HandoverError, roles: boolean, fence: number): Promise<void>;
  roles(held: boolean, fence: number): void;
  lend(name: string, index: number, fd: number): void;
  unlend(name: string, index: number): void;
  /** A server is to answer what comes over the descriptor; without a name the only HTTP server. */
  probe(name: string | undefined, fd: number): void;
  /**
   * Move up to `count` idle connections over the exchange link to `peer`, and go on serving. Resolves with the number that has
   * moved, when that is over.
   */
  rebalance(fd: number, peer: Peer, count: number): Promise<number>;
  endRebalance(): void;
  /** Look at the engine of the hosts. */
  inspect(): Promise<EngineReport | undefined>;
  stop(): void;
}

/** A worker's end of the control link to its supervisor. */
export class SupervisorLink implements ControlLink {
  readonly pid: number;
  /** The place of this worker. */
  readonly place: WorkerPlace;
  readonly gone: Promise<HandoverError | undefined>;
  readonly failed: Promise<HandoverError>;
  /** Of the service's units. */
  readonly directory: Directory;
  readonly #channel: Channel;
  readonly #gone = deferred<HandoverError | undefined>();
  readonly #failed = deferred<HandoverError>();
  readonly #requests: SupervisorRequests;
  /** The descriptors that the supervisor has, by name. */
  readonly #known: Map<string, number>;
  /** Those that it has opened, until the inventory has them: meanwhile another one may be added, or closed. */
  readonly #opened = new Map<string, number>();
  #isGone = false;
  #listener: SupervisorListener | undefined;

  /** @param items that the supervisor has sent */
  constructor(channel: Channel, pid: number, place: WorkerPlace, items: readonly InventoryItem[]) {
    this.#channel = channel;
    this.pid = pid;
    this.place = place;
    this.#known = new Map(items.map(({ name, fd }) => [name, fd]));
    this.gone = this.#gone.promise;
    this.failed = this.#failed.promise;
    this.#requests = new SupervisorRequests(channel);
    this.directory = new SupervisorDirectory({
      maxSize: channel.maxSize,
      send: (message) => void channel.send(message),
      request: async (message) => this.#requests.askDirectory(message),
    });
    channel.listen({
      message: (message, fds) => this.#receive(message, fds),
      fail: (error) => this.#failed.resolve(error),
      end: (error) => this.#end(error),
    });
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  /** Messages that arrive from now on go to `listener`. */
  subscribe(listener: SupervisorListener): void {
    this.#listener = listener;
  }

  readNow(): void {
    this.#channel.readNow();
  }

  leave(): void {
    this.sendStopping();
  }

  /** @param ticketKeys of TLS servers, in base64, by the names of their listeners */
  sendReady(used: string[], ticketKeys: Record<string, string> = {}): void {
    this.#channel.send({ type: "ready", used, ticketKeys });
  }

  sendCommitAck(): void {
    this.#channel.send({ type: "commit-ack" });
  }

  sendHeartbeat(inspected: boolean, connections = 0, hosts?: WorkerHosts): void {
    this.#channel.send({
      type: "heartbeat",
      inspected,
      connections,
      ...(hosts === undefined ? {} : { hosts }),
    });
  }

  /** This worker holds no role, although the supervisor has told it to acquire them. */
  sendRolesRefused(message: string, fence: number): void {
    this.#channel.send({ type: "roles-refused", message: shorten(message, LONGEST_REASON), fence });
  }

  sendStopping(): void {
    this.#channel.send({ type: "stopping" });
  }

  sendLeft(departure: Departure): void {
    this.#channel.send({ type: "left", ...departure });
  }

  /** As {@link SupervisorRequests.open}. */
  async open(request: OpenRequest): Promise<Omit<InventoryItem, "name">> {
    const item = await this.#requests.open(request);
    this.#opened.set(request.name, item.fd);
    return item;
  }

  /** Tells the supervisor which descriptors this worker has: the next worker of this index inherits them. */
  keep(items: readonly InventoryItem[]): void {
    for (const item of items) {
      if (this.#known.get(item.name) === item.fd) continue;
      const { fd, ...entry } = item;
      this.#known.set(item.name, fd);
      const isOpened = this.#opened.get(item.name) === fd;
      this.#opened.delete(item.name);
      if (!isOpened) this.#channel.send({ type: "keep", entry }, [fd]);
    }
    const names = new Set(items.map(({ name }) => name));
    for (const name of [...this.#known.keys()].filter((one) => !names.has(one))) {
      this.#known.delete(name);
      this.#channel.send({ type: "release", name });
    }
  }

  /** As {@link SupervisorRequests.ask}. */
  async ask(...asked: Parameters<SupervisorRequests["ask"]>): Promise<Record<string, unknown>> {
    return this.#requests.ask(...asked);
  }

  #receive(message: Message, fds: number[]): void {
    const listener = this.#listener;
    switch (message.type) {
      case "opened":
      case "asked":
      case "owned":
        return this.#requests.answered(message, fds);
      case "peer":
        if (fds.length !== 1 || listener === undefined) break;
        return message.side === "successor"
          ? listener.successor(fds[0]!, message)
          : listener.predecessor(fds[0]!, message);
      case "rebalance":
        if (fds.length !== 1 || listener === undefined) break;
        return void listener
          .rebalance(fds[0]!, message, message.count)
          .then((moved) => this.#channel.send({ type: "rebalanced", moved }));
      case "lend":
        if (fds.length === 1 && listener !== undefined)
          return listener.lend(message.name, message.index, fds[0]!);
        break;
      case "probe":
        if (fds.length === 1 && listener !== undefined) return listener.probe(message.name, fds[0]!);
        break;
      default:
    }
    closeAll(fds);
    if (listener !== undefined) this.#obey(message, listener);
  }

  #obey(message: Message, listener: SupervisorListener): void {
    switch (message.type) {
      case "commit":
        return listener.commit(message.ticketKeys ?? {}, message.fence ?? 0, message.roles ?? true);
      case "confirmed":
        return listener.confirmed();
      case "stage":
        return listener.stage(message.ttl);
      case "rehearsed":
        return listener.rehearsed();
      case "yield":
        return void listener.yield(message.leaves === true).then(
          () => this.#channel.send({ type: "yielded" }),
          (error: Error) =>
            this.#channel.send({ type: "yielded", message: shorten(error.message, LONGEST_REASON) }),
        );
      case "check": {
        const { code, message: why } = listener.check() ?? {};
        const answer = code === undefined || why === undefined ? {} : { code, message: why };
        return void this.#channel.send({ type: "checked", ...answer });
      }
      case "cease":
        return void this.#channel.send({ type: "ceased", fence: listener.cease(message) });
      case "retire":
        return listener.retire();
      case "resume": {
        const reason = new HandoverError(message.code as ErrorCode, message.message);
        const resuming = listener.resume(reason, message.roles, message.fence);
        return void resuming.then(() => this.#channel.send({ type: "resumed" }));
      }
      case "roles":
        return listener.roles(message.held, message.fence);
      case "rebalance-end":
        return listener.endRebalance();
      case "inspect":
        return void listener
          .inspect()
          .then((report) => this.#channel.send({ type: "inspected", report: { ...report } }));
      case "unlend":
        return listener.unlend(message.name, message.index);
      case "stop":
      case "stopping":
        return listener.stop();
      default:
        return undefined;
    }
  }

  #end(error: HandoverError | undefined): void {
    this.#isGone = true;
    this.#channel.close();
    this.#requests.end();
    this.#gone.resolve(error);
  }
}

/** Characters. The message of a program's error may be longer than what the channel takes. */
const LONGEST_REASON = 1_000;
