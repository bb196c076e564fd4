import type { UpgraderEvents } from "../events.js";
import type { Event, State } from "../lifecycle.js";
import { withTimeout } from "../util/timeout.js";
import type { OwnLaunch } from "../process/launch-info.js";
import { isStartedBySystemd } from "../process/spawn.js";
import type { InventoryItem } from "../sockets/inventory.js";
import { warnAboutUnused } from "./activation.js";
import { readEnvironment } from "./environment.js";
import { monotonic, Notifier, type Message } from "./notify.js";
import { describeStatus } from "./status-line.js";
import { DescriptorStore } from "./store.js";

/** The process as the service manager sees it. */
export interface Service {
  state(): State;
  connections(): number;
  used(): readonly InventoryItem[];
  /** Descriptors that systemd has passed and nothing uses. */
  unused(): readonly InventoryItem[];
  /** Whether a predecessor is alive. */
  hasPredecessor(): boolean;
}

/**
 * Reports to systemd. Only the main process of the service may do so: generation 0, and each successor from the end of
 * its probation, when its predecessor has named it to systemd. systemd kills the other processes of a service when the
 * main process exits, so at a stop the main process exits last.
 */
export class ServiceManager {
  readonly #generation: number;
  readonly #launch: OwnLaunch;
  readonly #service: Service;
  readonly #store: DescriptorStore;
  readonly #notifier: Notifier;
  readonly #watchdog: number | undefined;
  #isMain: boolean;
  /** Whether the event `ready` has been emitted. */
  #accepts = false;
  #successor: number | undefined;
  #lastFailure: string | undefined;
  /** The predecessor died before it named this process to systemd. */
  #mainPidUnconfirmed = false;
  /** This process has drained but waits for the other generations. */
  #waitsForOthers = false;
  #heartbeatTimer: NodeJS.Timeout | undefined;
  /** The last STATUS. */
  #status = "";

  /**
   * @param launch how this process was started
   * @param stored the names in systemd's descriptor store
   */
  constructor(generation: number, launch: OwnLaunch, stored: readonly string[], service: Service) {
    const { notifySocket, watchdog } = readEnvironment(launch);
    this.#launch = launch;
    this.#generation = generation;
    this.#service = service;
    this.#notifier = new Notifier(notifySocket);
    this.#store = new DescriptorStore(this.#notifier, stored);
    this.#watchdog = watchdog;
    this.#isMain = generation === 0;
    // If systemd does not wait for READY=1, the watchdog runs from the start.
    if (this.#isMain) this.#startHeartbeat();
  }

  /**
   * Called for every transition, before its effects: systemd must learn of a new main process before the old one
   * acts.
   */
  onTransition(event: Event, before: State, after: State): void {
    // At a stop before the end of probation the predecessor stays the main process.
    const mayBecomeMain = !("outcome" in after) || !this.#service.hasPredecessor();
    if (event === "confirmed" && !this.#isMain && mayBecomeMain) this.#becomeMain();
    if (!this.#isMain || before.name === after.name) return;
    if (after.name === "upgrading") {
      this.#successor = undefined;
      this.#lastFailure = undefined;
      this.#send({ RELOADING: 1, MONOTONIC_USEC: monotonic() });
    } else if (before.name === "upgrading" && after.name === "ready") this.#send({ READY: 1 });
    else if (!("outcome" in before) && "outcome" in after) {
      if (after.outcome === "upgraded") this.#passMainPidOn();
      else this.#stop();
    }
  }

  /** Called when the listeners of this process have changed, or it has become the main process. */
  storeListeners(): void {
    const { name } = this.#service.state();
    const serves = name === "ready" || name === "upgrading";
    if (this.#isMain && this.#accepts && serves) this.#store.sync(this.#service.used());
  }

  /** Before the main process exits: waits for the `others`, for at most `timeout` ms. */
  async waitForOthers(others: readonly Promise<unknown>[], timeout: number): Promise<void> {
    if (!this.#isMain || !(this.#notifier.isConnected || isStartedBySystemd(this.#launch))) return;
    this.#waitsForOthers = others.length > 0;
    if (this.#waitsForOthers) this.#send({});
    await withTimeout(timeout, Promise.all(others));
    this.#waitsForOthers = false;
  }

  /** Called for every event of the Upgrader. */
  onEvent<E extends keyof UpgraderEvents>(event: E, payload: UpgraderEvents[E][0]): void {
    const events = { [event]: payload } as Partial<{ [K in keyof UpgraderEvents]: UpgraderEvents[K][0] }>;
    if (events.ready !== undefined) {
      this.#accepts = true;
      warnAboutUnused(this.#service.unused());
      this.storeListeners();
      if (this.#isMain) this.#send({ READY: 1 });
    } else if (events.upgrading !== undefined) {
      this.#successor = events.upgrading.pid;
      this.#send({});
    } else if (events.upgraded !== undefined) {
      // A wrapper may have been spawned: its child is the successor.
      this.#successor = events.upgraded.pid;
      this.#send({});
    } else if (events.failed !== undefined) this.#reportFailure("upgrade failed", events.failed.error, {});
    else if (events.rollback !== undefined)
      this.#reportFailure("rolled back", events.rollback.error, { READY: 1 });
  }

  /** This process serves as before. */
  #reportFailure(what: string, error: Error, message: Message): void {
    this.#lastFailure = `${what}: ${error.message}`;
    if (this.#service.state().name === "ready") this.#send(message);
  }

  /** The predecessor has named this process to systemd. If it died before it could, this process has to. */
  #becomeMain(): void {
    this.#isMain = true;
    if (this.#service.state().name === "draining") this.#send({ MAINPID: process.pid, STOPPING: 1 });
    else if (this.#accepts) this.#send({ MAINPID: process.pid, READY: 1 });
    this.#startHeartbeat();
    this.storeListeners();
    this.#mainPidUnconfirmed = !this.#service.hasPredecessor();
  }

  /** Sent by the old main process, which NotifyAccess= always allows, before the new one reports anything. */
  #passMainPidOn(): void {
    this.#send({ MAINPID: this.#successor!, READY: 1 });
    this.#isMain = false;
    clearInterval(this.#heartbeatTimer);
  }

  #stop(): void {
    // The next start after a restart uses these sockets. One with a file is left out, because a stop unlinks the file.
    this.#store.sync(this.#service.used().filter(({ file }) => file === undefined));
    this.#send({ STOPPING: 1 });
  }

  /** Beats at half the watchdog's interval, or often enough to show the number of connections. */
  #startHeartbeat(): void {
    if (!this.#notifier.isConnected) return;
    this.#heartbeatTimer = setInterval(() => this.#heartbeat(), this.#interval).unref();
    this.#heartbeat();
  }

  get #interval(): number {
    return Math.min((this.#watchdog ?? Infinity) / 2, MAX_INTERVAL);
  }

  #heartbeat(): void {
    const watchdog: Message = this.#watchdog === undefined ? {} : { WATCHDOG: 1 };
    // A full queue must not block: the next beat may come in time.
    this.#send({ ...this.#repeated(), ...watchdog, ...this.#extension() }, 0);
  }

  /** systemd ignores a successor until it has seen that the main process is dead, so READY=1 is repeated. */
  #repeated(): Message {
    if (!this.#mainPidUnconfirmed || !this.#accepts || this.#service.state().name !== "ready") return {};
    this.#status = "";
    return { READY: 1 };
  }

  /** During an upgrade or a stop systemd's timeouts must wait for handover's. */
  #extension(): Message {
    const isQuiet = ["starting", "ready", "exited"].includes(this.#service.state().name);
    // Two beats, which is not longer than the watchdog's interval: systemd extends that as well.
    return this.#waitsForOthers || !isQuiet
      ? { EXTEND_TIMEOUT_USEC: Math.round(this.#interval * 2 * 1_000) }
      : {};
  }

  #send(message: Message, timeout?: number): void {
    if (!this.#isMain || !this.#notifier.isConnected) return;
    const status = describeStatus({
      state: this.#service.state(),
      generation: this.#generation,
      connections: this.#service.connections(),
      successor: this.#successor,
      lastFailure: this.#lastFailure,
      waitsForOthers: this.#waitsForOthers,
    });
    const change = status === this.#status ? {} : { STATUS: status };
    this.#status = status;
    const whole = { ...message, ...this.#extension(), ...change };
    if (Object.keys(whole).length > 0) this.#notifier.send(whole, [], timeout);
  }
}

/** ms between two beats. */
const MAX_INTERVAL = 5_000;
