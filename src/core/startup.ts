import type { WorkerHosts } from "../channel/messages.js";
import { BUNDLE_KIND } from "../connections/bundle.js";
import { CONNECTION_KIND, SECURE_KIND } from "../connections/connection-parcel.js";
import { reasonOf, toHandoverError, type HandoverError } from "../errors.js";
import type { HostsStatus } from "../exchange/hosts.js";
import { handoverTimeout } from "../lifecycle.js";
import { writeCompileCache } from "../process/compile-cache.js";
import type { ControlLink } from "../process/control-link.js";
import { Heartbeat } from "../process/heartbeat.js";
import { isInspected } from "../process/inspector.js";
import type { Predecessor } from "../process/predecessor.js";
import { awaitInput, LONGEST_TIMEOUT } from "../util/clock.js";
import { stopReporting } from "../process/uncaught-error.js";
import { deferred } from "../util/deferred.js";
import { isReserved } from "../util/validation.js";
import type { ProcessContext } from "./context.js";

/** How a process comes to accept: from its start until its predecessor, if it has one, has committed. */
export class Startup {
  /** Resolves when this process accepts and holds its roles. */
  readonly accepted: Promise<void>;
  /** Resolves when the predecessor lives, but cannot be understood or does not commit in time. */
  readonly failed: Promise<void>;
  readonly #context: ProcessContext;
  readonly #accepted = deferred<void>();
  readonly #failed = deferred<void>();
  /** Whether this process acquires its roles when it accepts: another worker of the service may hold them. */
  #holdsRoles = true;
  /** The predecessor broke the protocol, or the channel to it has failed: it lives, and cannot hand over. */
  #protocolError: HandoverError | undefined;
  #isWaiting = false;
  #heartbeat: Heartbeat | undefined;
  #cancelTimeout: () => void = () => {};
  #cancelReminder: () => void;

  constructor(context: ProcessContext) {
    this.#context = context;
    this.accepted = this.#accepted.promise;
    this.failed = this.#failed.promise;
    for (const one of context.predecessors.alive) this.#subscribeTo(one);
    // Most programs are ready in the turn in which they start: they need no timer.
    const soon = setImmediate(() => {
      this.#cancelReminder = context.env.clock.after(REMIND_AFTER, () => this.#remind());
    });
    this.#cancelReminder = () => clearImmediate(soon);
  }

  /** Tells the predecessor that this process is ready. Returns false without a predecessor: this process may accept at once. */
  sendReady(): boolean {
    const { controlLink, settings } = this.#context;
    this.#isWaiting = true;
    this.#cancelReminder();
    if (this.#protocolError !== undefined) this.#fail(this.#protocolError);
    else if (controlLink === undefined || controlLink.isGone) return false;
    else {
      this.#waitForCommit(controlLink, settings.upgradeTimeout);
      this.#reportReady(controlLink);
    }
    return true;
  }

  /** The predecessor commits later, within `ttl` ms. It learns that this process still is ready, and its event loop turns. */
  stage(ttl: number): void {
    const { controlLink } = this.#context;
    if (!this.#isWaiting || controlLink === undefined) return;
    // The predecessor decides when the time is over. This limit is for one that hangs.
    this.#waitForCommit(controlLink, Math.min(ttl + this.#context.settings.upgradeTimeout, LONGEST_TIMEOUT));
    this.#reportReady(controlLink);
  }

  #waitForCommit(link: ControlLink, timeout: number): void {
    this.#cancelTimeout();
    const onLate = (): void => this.#fail(handoverTimeout(link.pid, timeout));
    this.#cancelTimeout = awaitInput(this.#context.env.clock, timeout, () => link.readNow(), onLate);
  }

  #reportReady(link: ControlLink): void {
    const { inventory, supervisor, sockets } = this.#context;
    try {
      inventory.reportUsed((used) => {
        if (supervisor === undefined) link.sendReady(used);
        else supervisor.sendReady(used, sockets.ticketKeys());
      });
    } catch (error) {
      this.#fail(toHandoverError(error, "ERR_INTERNAL", "get ready"));
    }
  }

  /** The predecessor has committed. Its own predecessors, which still drain, are read here from now on. */
  takeOver(others: readonly Predecessor[], ticketKeys: Record<string, string>): void {
    const { sockets, generation, env } = this.#context;
    this.takeFrom(others);
    for (const one of others) one.takeChannelOver({ generation, pid: env.pid });
    sockets.setTicketKeys(ticketKeys);
  }

  /** Takes the parcels that further processes offer. */
  takeFrom(others: readonly Predecessor[]): void {
    const { predecessors, history } = this.#context;
    for (const one of others) this.#subscribeTo(one);
    predecessors.add(others);
    // A process that has taken over from none has no history open, and a worker that leaves would wait in vain for a taker.
    if (others.length > 0) history.open();
  }

  /** The supervisor has committed this worker; with the roles of the service if no other worker holds them. */
  takePlace(ticketKeys: Record<string, string>, fence: number, roles: boolean): void {
    const { sockets, processState } = this.#context;
    processState.fences.advanceTo(fence);
    sockets.setTicketKeys(ticketKeys);
    this.#holdsRoles = roles;
  }

  /** The predecessor is gone; with an error if it broke the protocol, and may still live. */
  onPredecessorGone(error: HandoverError | undefined): void {
    const { processState, state } = this.#context;
    this.#protocolError = error;
    // It did not send the last fence that it had given.
    if (state().name !== "ready") processState.fences.skipAhead();
    if (error !== undefined) this.#fail(error);
  }

  /** The predecessor may still be alive, but can no longer commit. */
  onChannelFailure(error: HandoverError): void {
    this.#protocolError = error;
    this.#fail(error);
  }

  /** Accepts on every listener, and acquires the roles. */
  accept(): void {
    this.#endWait();
    const { hosts, predecessors } = this.#context;
    const { alive } = predecessors;
    // One of them may give its seat; if it dies first, this process takes one of its own.
    hosts?.enter(alive.length === 0 ? undefined : Promise.all(alive.map(async ({ gone }) => gone)));
    try {
      const accepting = this.#context.sockets.accept();
      this.#complete(accepting).then(this.#accepted.resolve, this.#accepted.reject);
    } catch (error) {
      this.#accepted.reject(toHandoverError(error, "ERR_INTERNAL", "accept"));
      throw error;
    }
  }

  /**
   * Tells the predecessor that this process accepts. The acknowledgement is the last message of the turn, so that each
   * heartbeat after it says that the event loop turns; the one before it tells of a debugger.
   */
  acknowledge(): void {
    const { controlLink, connections, hosts } = this.#context;
    if (controlLink === undefined || controlLink.isGone) return;
    this.#heartbeat = new Heartbeat(() =>
      controlLink.sendHeartbeat(isInspected(), connections.size, hosts && counted(hosts.status())),
    );
    controlLink.sendCommitAck();
    void controlLink.gone.then(() => this.#endHeartbeat());
  }

  /** A rollback is impossible. A supervisor watches its workers to their end. */
  onConfirmed(): void {
    if (this.#context.supervisor === undefined) this.#endHeartbeat();
  }

  /** This process stops before it accepts, or its program's `ready()` failed. */
  abandon(reason: HandoverError): void {
    this.#endWait();
    this.#cancelReminder();
    this.#accepted.reject(reason);
  }

  /** Takes the parcels that an older generation offers. */
  #subscribeTo({ exchange }: Predecessor): void {
    const { connections, processState } = this.#context;
    exchange.subscribe(CONNECTION_KIND, undefined, connections.adopt);
    exchange.subscribe(SECURE_KIND, undefined, connections.adopt);
    exchange.subscribe(BUNDLE_KIND, undefined, connections.adopt);
    processState.subscribeTo(exchange);
  }

  #fail(reason: HandoverError): void {
    if (!this.#isWaiting) return;
    this.abandon(reason);
    this.#failed.resolve();
  }

  /** Clients wait in the queues of the listeners, and a forgotten `ready()` looks like a server that hangs. */
  #remind(): void {
    const listeners = this.#context.inventory.used().map(({ name }) => name);
    const own = listeners.filter((name) => !isReserved(name));
    if (own.length === 0) return;
    const message = `this process listens on ${own.join(", ")} for ${REMIND_AFTER / 1_000} s and does not accept: it waits for ready()`;
    process.emitWarning(message, { code: "HANDOVER_NOT_READY" });
  }

  #endHeartbeat(): void {
    this.#heartbeat?.stop();
    stopReporting();
  }

  #endWait(): void {
    this.#isWaiting = false;
    this.#cancelTimeout();
  }

  async #complete(accepting: Promise<unknown>): Promise<void> {
    const { pidFile, emit, generation, settings } = this.#context;
    try {
      pidFile?.publish();
    } finally {
      await accepting;
    }
    if (this.#holdsRoles) await this.#acquireRoles();
    emit("ready", { generation });
    // It blocks for some ms, and what the program does next may be urgent.
    if (settings.compileCache !== undefined) setImmediate(writeCompileCache);
  }

  /** A worker that cannot acquire all roles holds none, and says so: the next one tries. */
  async #acquireRoles(): Promise<void> {
    const { supervisor, processState } = this.#context;
    const { roles, fences } = processState;
    try {
      await roles.acquire();
    } catch (error) {
      if (supervisor !== undefined && (await roles.releaseAll()).length === 0)
        supervisor.sendRolesRefused(reasonOf(error), fences.last);
      throw error;
    }
  }
}

function counted({ peers, ...rest }: HostsStatus): WorkerHosts {
  return { ...rest, peers: peers.length };
}

/** ms after which a program that listens is reminded of `ready()`. */
const REMIND_AFTER = 10_000;
