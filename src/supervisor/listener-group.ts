import type { RequestedAddress } from "../address.js";
import { HandoverError, reasonOf } from "../errors.js";
import { check, MAX_STEERED, native, type SocketDescription } from "../platform/native.js";
import type { OpenRequest } from "../process/supervisor-requests.js";
import type { InventoryItem } from "../sockets/inventory.js";
import { openWhenFree } from "./open-socket.js";
import { Steering, type Loan, type SteeringState } from "./steering.js";

/** Runs the loans of a group. */
export interface GroupHost {
  /** @param fd of the member that is lent; it stays the group's */
  lend(loan: Loan, fd: number): void;
  unlend(loan: Loan): void;
}

/** A group, with the descriptors of its members by index. */
export interface GroupState {
  readonly name: string;
  readonly address: RequestedAddress;
  readonly backlog: number;
  readonly bound: SocketDescription;
  readonly members: readonly (readonly [index: number, fd: number])[];
  readonly steering: SteeringState;
}

/** The sockets of one listener, one for each worker: one reuse-port group. */
export class ListenerGroup {
  readonly name: string;
  readonly address: RequestedAddress;
  readonly #backlog: number;
  readonly #bound: SocketDescription;
  readonly #by: "random" | "source";
  readonly #host: GroupHost;
  readonly #members = new Map<number, number>();
  readonly #steering = new Steering();
  #isSteered = true;

  /**
   * Finds out whether the address is free: a socket with SO_REUSEPORT could be bound beside those of another service of this
   * user, which would then get half of the connections.
   *
   * @throws {HandoverError} `ERR_LISTEN`
   */
  static async open(request: OpenRequest, by: "random" | "source", host: GroupHost): Promise<ListenerGroup> {
    const probe = await openWhenFree(request.address, request);
    try {
      const bound = check(native().describe(probe.fd), "describe the descriptor of", request.name);
      return new ListenerGroup(request, bound, by, host);
    } finally {
      native().close(probe.fd);
    }
  }

  /**
   * A group that outlived a supervisor in systemd's descriptor store; undefined if its order in the kernel is not known.
   *
   * @param members the group's own from now on, unless the result is undefined
   */
  static restore(
    request: OpenRequest,
    members: readonly InventoryItem[],
    by: "random" | "source",
    host: GroupHost,
  ): ListenerGroup | undefined {
    const ordered = members.toSorted((a, b) => a.member!.position - b.member!.position);
    if (ordered.length === 0 || ordered.some(({ member }, n) => member!.position !== n)) return undefined;
    const bound = check(native().describe(ordered[0]!.fd), "describe the descriptor of", request.name);
    const group = new ListenerGroup(request, bound, by, host);
    for (const { fd, member } of ordered) {
      group.#members.set(member!.index, fd);
      group.#steering.add(member!.index);
    }
    return group;
  }

  /** Goes on with the group of the program that this process was before. */
  static adopt(state: GroupState, by: "random" | "source", host: GroupHost): ListenerGroup {
    const group = new ListenerGroup(state, state.bound, by, host);
    for (const [index, fd] of state.members) group.#members.set(index, fd);
    group.#steering.restore(state.steering);
    return group;
  }

  private constructor(
    request: Pick<OpenRequest, "name" | "address" | "backlog">,
    bound: SocketDescription,
    by: "random" | "source",
    host: GroupHost,
  ) {
    this.name = request.name;
    this.address = request.address;
    this.#backlog = request.backlog;
    this.#bound = bound;
    this.#by = by;
    this.#host = host;
  }

  /** Whether the kernel does as the steering says, as far as it was asked. */
  get isSteered(): boolean {
    return this.#isSteered;
  }

  /** For {@link restore}. */
  get state(): GroupState {
    const { name, address } = this;
    const members = [...this.#members];
    return {
      name,
      address,
      backlog: this.#backlog,
      bound: this.#bound,
      members,
      steering: this.#steering.state,
    };
  }

  /** The descriptor of any member. */
  get fd(): number {
    return [...this.#members.values()][0]!;
  }

  /** The member of an index, which is made if there is none. The descriptor stays the group's. */
  add(index: number): InventoryItem {
    if (!this.#members.has(index)) {
      this.#members.set(index, this.#bind());
      this.#steering.add(index);
    }
    return this.item(index)!;
  }

  /** All members, as the descriptor store has them. */
  get stored(): InventoryItem[] {
    return this.#steering.order.map((index, position) => ({
      ...this.item(index)!,
      member: { index, position },
    }));
  }

  item(index: number): InventoryItem | undefined {
    const fd = this.#members.get(index);
    return fd === undefined ? undefined : { name: this.name, address: this.address, fd };
  }

  /**
   * Steers connections to the members whose workers accept, and lends the queues of the others. Datagrams are not steered:
   * those of one client would reach several workers.
   */
  steer(isAccepting: (index: number) => boolean): void {
    if (this.address.kind === "udp") return;
    for (const index of this.#members.keys()) this.#steering.setAccepting(index, isAccepting(index));
    const { steer, unlend, lend } = this.#steering.plan();
    // Where the kernel refuses, its hash keeps choosing, and the loans still empty every queue.
    if (steer !== undefined)
      this.#isSteered = native().steer(this.fd, steer.slice(0, MAX_STEERED), this.#by) >= 0;
    for (const loan of unlend) this.#host.unlend(loan);
    for (const loan of lend) this.#host.lend(loan, this.#members.get(loan.member)!);
  }

  /**
   * Removes the member of an index from the group. Clients in its queue are reset: it has to be empty. The member leaves the
   * kernel's group at once: workers that have its descriptor would keep it there, and the filter counts the group's members.
   */
  remove(index: number): void {
    const fd = this.#members.get(index);
    if (fd === undefined) return;
    this.#members.delete(index);
    this.#steering.remove(index);
    if (this.address.kind === "tcp") native().shutdown(fd);
    native().close(fd);
  }

  close(): void {
    for (const fd of this.#members.values()) native().close(fd);
    this.#members.clear();
  }

  #bind(): number {
    const { address, port, ipv6Only } = this.#bound;
    const type = this.address.kind === "udp" ? "dgram" : "stream";
    const fd = native().bindInet(type, address, port, ipv6Only, true);
    try {
      check(fd, "bind", address);
      if (this.address.kind === "tcp") check(native().listen(fd, this.#backlog), "listen on", address);
      return fd;
    } catch (cause) {
      if (fd >= 0) native().close(fd);
      throw new HandoverError("ERR_LISTEN", `cannot listen on ${this.name}: ${reasonOf(cause)}`, { cause });
    }
  }
}
