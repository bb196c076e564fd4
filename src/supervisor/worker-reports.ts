import type { InventoryEntry, Message, WorkerHosts } from "../channel/messages.js";
import { noSummary, type Departure } from "../events.js";
import { closeAll } from "../platform/descriptors.js";

/** What a worker says and asks while it lives. Answers that are late or come twice are passed on, too. */
export interface ReportListener<Worker> {
  /** It has released its roles; or not, for a reason. */
  yielded(worker: Worker, failure: string | undefined): void;
  ceased(worker: Worker, fence: number): void;
  /** It could not acquire the roles, and holds none. */
  rolesRefused(worker: Worker, reason: string, fence: number): void;
  resumed(worker: Worker): void;
  /** It has moved connections to another worker. */
  rebalanced(worker: Worker, moved: number): void;
  /** It asks for a listener, an operation or the end of one, or for units; or it gives units up. */
  request(worker: Worker, request: WorkerRequest): void;
  /** The next worker of its index inherits the descriptor. */
  keep(worker: Worker, entry: InventoryEntry, fd: number): void;
  /** It has closed the descriptor of this name. */
  release(worker: Worker, name: string): void;
}

export type WorkerRequest = Message & { type: "open" | "ask" | "cancel" | "own" | "where" | "disown" };

/** What a worker has reported, as another supervisor takes it over. */
export interface ReportsState {
  connections: number;
  used: string[];
  opened: string[];
  ticketKeys: Record<string, string>;
  departure?: Departure | undefined;
}

/** What one worker has said of itself so far. */
export class WorkerReports<Worker> {
  readonly #worker: Worker;
  readonly #listener: ReportListener<Worker>;
  #connections = 0;
  #hosts: WorkerHosts | undefined;
  #used: ReadonlySet<string> = new Set();
  /** The names of the listeners that it has asked for: it says that it uses those that it has inherited. */
  readonly #opened = new Set<string>();
  #ticketKeys: Record<string, string> = {};
  #departure: Departure | undefined;

  constructor(worker: Worker, listener: ReportListener<Worker>) {
    this.#worker = worker;
    this.#listener = listener;
  }

  /** As of its last heartbeat. */
  get connections(): number {
    return this.#connections;
  }

  /** Its part in a service on several hosts, as of its last heartbeat. */
  get hosts(): WorkerHosts | undefined {
    return this.#hosts;
  }

  /** The names of the service's listeners and descriptors that it uses. */
  get used(): ReadonlySet<string> {
    return new Set([...this.#used, ...this.#opened]);
  }

  /** The keys of its TLS servers, by the names of their listeners. */
  get ticketKeys(): Record<string, string> {
    return this.#ticketKeys;
  }

  /** How what it held has ended. The connections of a worker that died without a word are lost with it. */
  get departure(): Departure {
    const destroyed = this.#connections;
    return this.#departure ?? { connections: destroyed, summary: { ...noSummary(), destroyed } };
  }

  /** For {@link restore}. */
  get state(): ReportsState {
    return {
      connections: this.#connections,
      used: [...this.#used],
      opened: [...this.#opened],
      ticketKeys: this.#ticketKeys,
      departure: this.#departure,
    };
  }

  restore({ connections, used, opened, ticketKeys, departure }: ReportsState): void {
    this.#connections = connections;
    this.#used = new Set(used);
    for (const name of opened) this.#opened.add(name);
    this.#ticketKeys = ticketKeys;
    this.#departure = departure;
  }

  /** It is ready, and uses these descriptors. */
  ready({ used, ticketKeys = {} }: Message & { type: "ready" }): void {
    this.#used = new Set(used);
    this.#ticketKeys = ticketKeys;
  }

  /** It was given the listener that it has asked for. */
  opened(name: string): void {
    this.#opened.add(name);
  }

  /** @returns whether the message is one that only a supervisor understands: the descriptors are this object's then */
  receive(message: Message, fds: number[]): boolean {
    const worker = this.#worker;
    switch (message.type) {
      case "heartbeat":
        this.#connections = message.connections ?? 0;
        this.#hosts = message.hosts;
        return false;
      case "yielded":
        this.#listener.yielded(worker, message.message);
        break;
      case "ceased":
        this.#listener.ceased(worker, message.fence);
        break;
      case "roles-refused":
        this.#listener.rolesRefused(worker, message.message, message.fence);
        break;
      case "resumed":
        this.#listener.resumed(worker);
        break;
      case "rebalanced":
        this.#listener.rebalanced(worker, message.moved);
        break;
      case "open":
      case "ask":
      case "cancel":
      case "own":
      case "where":
      case "disown":
        this.#listener.request(worker, message);
        break;
      case "left":
        this.#departure = { connections: message.connections, summary: message.summary };
        break;
      case "release":
        this.#opened.delete(message.name);
        this.#used = new Set([...this.#used].filter((name) => name !== message.name));
        this.#listener.release(worker, message.name);
        break;
      case "keep":
        if (fds.length !== 1) break;
        this.#listener.keep(worker, message.entry, fds[0]!);
        return true;
      default:
        return false;
    }
    closeAll(fds);
    return true;
  }
}
