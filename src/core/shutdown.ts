import { Drain } from "../connections/drain.js";
import type { DrainSummary } from "../events.js";
import { DrainContext, type HostsRoute } from "../exchange/drain-context.js";
import type { Exchange } from "../exchange/exchange.js";
import type { Hosts } from "../exchange/hosts.js";
import type { DrainProgress } from "../process/predecessor.js";
import { withTimeout } from "../util/timeout.js";
import type { ProcessContext } from "./context.js";

/** The drain of a process: its connections and its state move to the successor, or end here. */
export class Shutdown {
  /** Resolves when nothing is left here. Stays pending after {@link cancel}. Rejects if a step of the drain failed. */
  readonly drained: Promise<DrainSummary>;
  /** Connections at its beginning. */
  readonly held: number;
  readonly #context: ProcessContext;
  readonly #clock: DrainContext;
  readonly #connections: Drain;

  /**
   * Begins at once.
   *
   * @param exchange leads to the successor; undefined for a process that stops
   * @param confirmed resolves at the end of the successor's probation, with false after a rollback
   */
  constructor(context: ProcessContext, exchange: Exchange | undefined, confirmed: Promise<boolean>) {
    const { settings, connections, processState, emit } = context;
    const { size } = connections;
    const timeout = settings.drainTimeout;
    this.held = size;
    this.#context = context;
    this.#clock = new DrainContext(exchange, confirmed, timeout, this.#openHosts(exchange));
    processState.beginDrain(this.#clock);
    emit("draining", { connections: size, timeout });
    this.#connections = new Drain(connections, this.#clock);
    this.drained = this.#drain(size);
  }

  get progress(): DrainProgress {
    const { connections, processState } = this.#context;
    return {
      connections: connections.size,
      moved: this.#connections.moved,
      remaining: Math.round(this.#clock.remaining),
      drained: connections.size === 0 && processState.isDrained,
    };
  }

  /** The successor has died: nothing more moves or ends. */
  cancel(): void {
    this.#clock.rollBack();
    this.#connections.cancel();
  }

  /** The way to other hosts: known when the successor has the seat, or the other hosts know that this process stops. */
  #openHosts(exchange: Exchange | undefined): HostsRoute | undefined {
    const { hosts, processState } = this.#context;
    if (hosts === undefined) return undefined;
    if (exchange === undefined) processState.roles.stop();
    const isSeatShared =
      exchange === undefined ? hosts.announceDrain().then(() => false) : this.#giveSeat(hosts, exchange);
    return hosts.state === undefined ? undefined : { exchange: hosts.state.exchange, isSeatShared };
  }

  /**
   * Gives the seat to the successor. One that has a seat of its own, as another worker has, or none, gets nothing with it: the
   * other hosts learn that this process drains, and its roles are free, although it may keep connections for long.
   */
  async #giveSeat(hosts: Hosts, exchange: Exchange): Promise<boolean> {
    if (await hosts.giveTo(exchange)) return true;
    if (this.#clock.isRolledBack || !hosts.isHeld) return false;
    const { roles } = this.#context.processState;
    roles.stop();
    const released = roles.releaseAll();
    await hosts.announceDrain();
    for (const error of await released) this.#context.emit("failed", { error });
    return false;
  }

  /** State moves after the connections that are idle now, so that their last requests are in it. */
  async #drain(connections: number): Promise<DrainSummary> {
    const { processState, history, emit } = this.#context;
    const roles = processState.roles.releaseAll();
    const units = processState.drain(this.#clock, withTimeout(SWEEP_TIMEOUT, this.#connections.swept));
    // Its error is thrown below, after the connections. Until then it must not be an unhandled rejection.
    units.catch(() => {});
    try {
      const summary = { ...(await this.#connections.done), units: await units };
      await Promise.race([history.end(connections, summary), this.#clock.over]);
      await processState.whenEmpty(this.#clock);
      // The database of the hosts may be away since: a role is free when the lease ends.
      for (const error of (await Promise.race([roles, this.#clock.over])) ?? []) emit("failed", { error });
      return summary;
    } finally {
      this.#clock.end();
    }
  }
}

/** ms that state waits for the idle connections. */
const SWEEP_TIMEOUT = 1_000;
