import { describeAddress, fits } from "../address.js";
import { HandoverError } from "../errors.js";
import { native } from "../platform/native.js";
import type { OpenRequest } from "../process/supervisor-requests.js";
import { boundTo } from "../sockets/describe.js";
import { Inventory, type InventoryItem } from "../sockets/inventory.js";
import { isBoundAs, takeActivated } from "../sockets/systemd-match.js";
import { KeptDescriptors } from "./kept-descriptors.js";
import { ListenerGroup, type GroupHost, type GroupState } from "./listener-group.js";
import { openWhenFree } from "./open-socket.js";
import type { Loan } from "./steering.js";

/** What the listeners need of the workers. */
interface ListenersHost {
  /** Whether the worker of an index accepts. */
  isAccepting(index: number): boolean;
  /** The names of the listeners of the workers that do not accept yet. */
  waiting(): Iterable<string>;
  lend(loan: Loan, name: string, fd: number): void;
  unlend(loan: Loan, name: string): void;
}

/** The worker that a listener is opened for. */
interface ListenerUser {
  readonly index: number;
  readonly isAccepting: boolean;
}

/** The listeners with their descriptors. */
export interface ListenersState {
  groups: GroupState[];
  shared: InventoryItem[];
  activated: InventoryItem[];
  /** By index. */
  kept: [number, InventoryItem[]][];
  used: [number, string[]][];
}

/**
 * The listeners of the service, which the supervisor owns. A worker gets a duplicate of the one of its index: it is never
 * closed while the service lives, so that what waits in its queue is not lost with a worker.
 */
export class ServiceListeners {
  readonly #host: ListenersHost;
  readonly #by: "random" | "source";
  readonly #groups = new Map<string, ListenerGroup>();
  /** Listeners with one queue for all workers: Unix sockets, and sockets that systemd has passed. */
  readonly #shared: Inventory;
  /** Members of reuse-port groups that outlived a supervisor, by the name of the listener, until a worker asks for it. */
  readonly #outlived = new Map<string, InventoryItem[]>();
  readonly kept = new KeptDescriptors<object>();
  /** The listeners of the last worker of each index that accepted: another one that starts may fail. */
  readonly #used = new Map<number, Set<string>>();
  /** Requests run one after the other: several workers ask for the same listener at the same time. */
  #last: Promise<unknown> = Promise.resolve();

  /**
   * @param by how connections are spread over the workers
   * @param activated the sockets that systemd has passed
   */
  constructor(host: ListenersHost, by: "random" | "source", activated: readonly InventoryItem[]) {
    this.#host = host;
    this.#by = by;
    this.#shared = new Inventory(
      activated.filter((item) => !isMember(item)),
      { changed: () => {} },
    );
    for (const item of activated.filter(isMember)) {
      this.#outlived.set(item.name, [...(this.#outlived.get(item.name) ?? []), item]);
    }
  }

  /** For {@link restore}. */
  get state(): ListenersState {
    return {
      groups: [...this.#groups.values()].map((group) => group.state),
      shared: [...this.#shared.used()],
      activated: [...this.#shared.inherited(), ...[...this.#outlived.values()].flat()],
      kept: this.kept.state,
      used: [...this.#used].map(([index, names]) => [index, [...names]]),
    };
  }

  /** Goes on with the listeners of the program that this process was before; those of systemd were given to the constructor. */
  restore({ groups, shared, kept, used }: ListenersState): void {
    for (const state of groups)
      this.#groups.set(state.name, ListenerGroup.adopt(state, this.#by, this.#groupHost(state.name)));
    for (const item of shared) this.#shared.add(item);
    this.kept.restore(kept);
    for (const [index, names] of used) this.setUsed(index, new Set(names));
  }

  /**
   * The listener for a worker. The descriptor stays this object's.
   *
   * @throws {HandoverError} `ERR_LISTEN`
   */
  async open(user: ListenerUser, request: OpenRequest): Promise<InventoryItem> {
    const opening = this.#last.then(async () => this.#open(user.index, request));
    this.#last = opening.catch(() => {});
    const item = await opening;
    if (user.isAccepting) this.#usedBy(user.index).add(item.name);
    // A new member may get connections before its worker accepts, where the kernel refuses to steer.
    this.steer();
    return item;
  }

  /** What a new worker of an index inherits. The descriptors stay this object's. */
  itemsFor(index: number): InventoryItem[] {
    const groups = [...this.#groups.values()].flatMap((group) => group.item(index) ?? []);
    const shared = this.#shared.used().map(withoutFile);
    return [...groups, ...shared, ...this.kept.of(index)];
  }

  /** The listeners of the service, for its status. */
  get all(): { name: string; address?: string; passed?: true; unsteered?: true }[] {
    const groups = [...this.#groups.values()].map(({ name, fd, isSteered }) => ({
      name,
      ...boundTo(fd),
      ...(isSteered ? {} : { unsteered: true as const }),
    }));
    const shared = this.#shared.forSuccessor().map(({ name, fd, activation }) => ({
      name,
      ...boundTo(fd),
      ...(activation === undefined ? {} : { passed: true as const }),
    }));
    return [...groups, ...shared];
  }

  /** What belongs into the descriptor store of systemd. */
  get stored(): InventoryItem[] {
    return [...[...this.#groups.values()].flatMap((group) => group.stored), ...this.#shared.used()];
  }

  /** Sockets that systemd has passed, and that no worker has asked for. */
  get unused(): InventoryItem[] {
    return this.#shared.inherited().filter(({ activation }) => activation !== undefined);
  }

  /** Closes the listeners of an earlier supervisor that no worker has asked for. */
  closeStored(): void {
    for (const name of this.#outlived.keys()) this.#closeOutlived(name);
    this.#shared.closeUnused();
    this.#shared.endLoan();
  }

  /** A worker accepts, and uses these listeners. */
  setUsed(index: number, names: ReadonlySet<string>): void {
    this.#used.set(index, new Set(names));
  }

  /** A worker has closed a listener, or a descriptor of its own. */
  release(index: number, name: string): void {
    this.#used.get(index)?.delete(name);
    this.kept.release(index, name);
    this.steer();
  }

  /** Sends new connections to the workers that accept, and lends them the queues of the others. */
  steer(): void {
    for (const group of this.#groups.values()) {
      group.steer((index) => this.#host.isAccepting(index) && this.#usedBy(index).has(group.name));
    }
  }

  /** Closes the members of an index, whose worker is gone, and whose queues are empty or lent. */
  removeIndex(index: number): void {
    for (const group of this.#groups.values()) group.remove(index);
    this.kept.removeIndex(index);
    this.#used.delete(index);
    this.closeUnused();
    this.steer();
  }

  /** The descriptors of the members of an index that accept connections. */
  queuesOf(index: number): number[] {
    const items = [...this.#groups.values()].flatMap((group) => group.item(index) ?? []);
    return items.flatMap(({ address, fd }) => (address?.kind === "tcp" ? [fd] : []));
  }

  /** When workers have left: closes the listeners that none of the others uses. Clients would wait there for ever. */
  closeUnused(): void {
    const names = new Set([
      ...[...this.#used.values()].flatMap((some) => [...some]),
      ...this.#host.waiting(),
    ]);
    for (const [name, group] of this.#groups) {
      if (names.has(name)) continue;
      group.close();
      this.#groups.delete(name);
    }
    for (const { name, activation } of this.#shared.used()) {
      if (!names.has(name) && activation === undefined) this.#shared.close(name);
    }
  }

  /** Closes everything: the service ends. */
  closeAll(): void {
    for (const group of this.#groups.values()) group.close();
    this.#shared.closeUsed(new Set());
    this.kept.closeAll();
    for (const name of this.#outlived.keys()) this.#closeOutlived(name);
    for (const map of [this.#groups, this.#used]) map.clear();
  }

  async #open(index: number, request: OpenRequest): Promise<InventoryItem> {
    const { name, address } = request;
    const group = this.#groups.get(name);
    if (group !== undefined && fits(address, group.address)) return group.add(index);
    const shared = this.#shared.used().find((item) => item.name === name);
    if (shared !== undefined && fits(address, shared.address)) return withoutFile(shared);
    if (group !== undefined || shared !== undefined) {
      const held = describeAddress((group?.address ?? shared?.address)!);
      const message = `cannot listen on ${describeAddress(address)}: the workers that serve have ${held} under the name "${name}"`;
      throw new HandoverError("ERR_LISTEN", message);
    }
    const passed = await takeActivated(this.#shared, name, { address, name });
    if (passed !== undefined) return passed;
    if (address.kind === "unix") {
      const item = { ...(await openWhenFree(address, request)), name };
      this.#shared.add(item);
      return withoutFile(item);
    }
    const host = this.#groupHost(name);
    const made = (await this.#restore(request, host)) ?? (await ListenerGroup.open(request, this.#by, host));
    this.#groups.set(name, made);
    return made.add(index);
  }

  async #restore(request: OpenRequest, host: GroupHost): Promise<ListenerGroup | undefined> {
    const { name, address } = request;
    const members = this.#outlived.get(name) ?? [];
    const areBound = await Promise.all(members.map(async (item) => isBoundAs(address, item)));
    const group = areBound.includes(false)
      ? undefined
      : ListenerGroup.restore(request, members, this.#by, host);
    if (group === undefined) this.#closeOutlived(name);
    else this.#outlived.delete(name);
    return group;
  }

  #closeOutlived(name: string): void {
    for (const { fd } of this.#outlived.get(name) ?? []) native().close(fd);
    this.#outlived.delete(name);
  }

  #groupHost(name: string): GroupHost {
    return {
      lend: (loan, fd) => this.#host.lend(loan, name, fd),
      unlend: (loan) => this.#host.unlend(loan, name),
    };
  }

  #usedBy(index: number): Set<string> {
    const used = this.#used.get(index) ?? new Set();
    this.#used.set(index, used);
    return used;
  }
}

/** Whether an item of the descriptor store is one of a reuse-port group. */
function isMember({ member }: InventoryItem): boolean {
  return member !== undefined;
}

/** The file of a Unix listener is the supervisor's: no worker unlinks it. */
function withoutFile({ file: _, ...item }: InventoryItem): InventoryItem {
  return item;
}
