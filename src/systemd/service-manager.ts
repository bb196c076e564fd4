import type { UpgraderEvents } from "../events.js";
import type { Event, State } from "../lifecycle.js";
import { withTimeout } from "../util/timeout.js";
import type { LaunchInfo } from "../process/command.js";
import { isStartedBySystemd } from "../process/spawn.js";
import type { InventoryItem } from "../sockets/inventory.js";
import { warnAboutUnused } from "./activation.js";
import { readEnvironment } from "./environment.js";
import { Notifier, type Message } from "./notify.js";
import { describeStatus } from "./status-line.js";
import { DescriptorStore } from "./store.js";

/** What there is to tell of. */
export interface Service {
  state(): State;
  connections(): number;
  used(): readonly InventoryItem[];
  /** Passed, but not used. */
  unused(): readonly InventoryItem[];
  /** That is alive. */
  hasPredecessor(): boolean;
}

/**
 * What this process tells systemd. Only the one that systemd takes for the main process of the service may speak:
 * generation 0, and each successor from the end of its probation, when its predecessor has said so. As systemd kills what
 * is left of a service when its main process has ended, that one is the last to leave at a stop.
 */
export class ServiceManager {
  readonly #generation: number;
  readonly #launch: LaunchInfo;
  readonly #service: Service;
  readonly #store: DescriptorStore;
  readonly #notifier: Notifier;
  readonly #watchdog: number | undefined;
  #isMain: boolean;
  /** Whether the program has been told that it is ready. */
  #accepts = false;
  #successor: number | undefined;
  #lastFailure: string | undefined;
  /** Its predecessor has died, and has not said who is the main process now. */
  #mainPidUnconfirmed = false;
  /** It is done, and others are not. */
  #waitsForOthers = false;
  #heartbeatTimer: NodeJS.Timeout | undefined;
  /** The last STATUS. */
  #status = "";

  /**
   * @param launch how this process was started
   * @param stored the names of what is in systemd's descriptor store
   */
  constructor(generation: number, launch: LaunchInfo, stored: readonly string[], service: Service) {
    const { notifySocket, watchdog } = readEnvironment(launch.env);
    this.#launch = launch;
    this.#generation = generation;
    this.#service = service;
    this.#notifier = new Notifier(notifySocket);
    this.#store = new DescriptorStore(this.#notifier, stored);
    this.#watchdog = watchdog;
    this.#isMain = generation === 0;
    // Where systemd does not wait for READY=1 the watchdog runs from the start.
    if (this.#isMain) this.#startHeartbeat();
  }

  /** Follows every step of this process, before its effects: the last word of a main process comes first. */
  onTransition(event: Event, before: State, after: State): void {
    // In a stop that comes before the end of probation the main process stays what it is.
    const isLeftAlone = !("outcome" in after) || !this.#service.hasPredecessor();
    if (event === "confirmed" && !this.#isMain && isLeftAlone) this.#becomeMain();
    if (!this.#isMain || before.name === after.name) return;
    if (after.name === "upgrading") {
      this.#successor = undefined;
      this.#lastFailure = undefined;
      this.#send({ RELOADING: 1, MONOTONIC_USEC: monotonic() });
    } else if (event === "rehearsed") this.#send({ READY: 1 });
    else if (!("outcome" in before) && "outcome" in after) {
      if (after.outcome === "upgraded") this.#passMainPidOn();
      else this.#stop();
    }
  }

  /** What this process listens on has changed, or is what it has to answer for now. */
  storeListeners(): void {
    const { name } = this.#service.state();
    const serves = name === "ready" || name === "upgrading";
    if (this.#isMain && this.#accepts && serves) this.#store.sync(this.#service.used());
  }

  /** At the end of the main process: waits for `others`, for at most `timeout` ms. */
  async waitForOthers(others: readonly Promise<unknown>[], timeout: number): Promise<void> {
    if (!this.#isMain || !(this.#notifier.isConnected || isStartedBySystemd(this.#launch))) return;
    this.#waitsForOthers = others.length > 0;
    if (this.#waitsForOthers) this.#send({});
    await withTimeout(timeout, Promise.all(others));
    this.#waitsForOthers = false;
  }

  /** What the program hears, too. */
  onEvent<E extends keyof UpgraderEvents>(event: E, payload: UpgraderEvents[E][0]): void {
    const told = { [event]: payload } as Partial<{ [K in keyof UpgraderEvents]: UpgraderEvents[K][0] }>;
    if (told.ready !== undefined) {
      this.#accepts = true;
      warnAboutUnused(this.#service.unused());
      this.storeListeners();
      if (this.#isMain) this.#send({ READY: 1 });
    } else if (told.upgrading !== undefined) {
      this.#successor = told.upgrading.pid;
      this.#send({});
    } else if (told.upgraded !== undefined) this.#send({});
    else if (told.failed !== undefined) this.#reportFailure("upgrade failed", told.failed.error);
    else if (told.rollback !== undefined) this.#reportFailure("rolled back", told.rollback.error);
  }

  /** The upgrade is over, and this process is as it was before. */
  #reportFailure(what: string, error: Error): void {
    this.#lastFailure = `${what}: ${error.message}`;
    if (this.#service.state().name === "ready") this.#send({ READY: 1 });
  }

  /** Its predecessor has told systemd so, unless it died: then this process is the only one that can. */
  #becomeMain(): void {
    this.#isMain = true;
    if (this.#service.state().name === "draining") this.#send({ MAINPID: process.pid, STOPPING: 1 });
    else if (this.#accepts) this.#send({ MAINPID: process.pid, READY: 1 });
    this.#startHeartbeat();
    this.storeListeners();
    this.#mainPidUnconfirmed = !this.#service.hasPredecessor();
  }

  /** Systemd hears it from the old main process, whatever NotifyAccess= says, before the new one hears it. */
  #passMainPidOn(): void {
    this.#send({ MAINPID: this.#successor!, READY: 1 });
    this.#isMain = false;
    clearInterval(this.#heartbeatTimer);
  }

  #stop(): void {
    // A restart goes on with the others; after a stop systemd drops them. Files go at either.
    this.#store.sync(this.#service.used().filter(({ file }) => file === undefined));
    this.#send({ STOPPING: 1 });
  }

  /** At half the watchdog's interval; else as often as a changed number of connections is worth. */
  #startHeartbeat(): void {
    if (!this.#notifier.isConnected) return;
    this.#heartbeatTimer = setInterval(() => this.#heartbeat(), this.#interval).unref();
    this.#heartbeat();
  }

  get #interval(): number {
    return Math.min((this.#watchdog ?? Infinity) / 2, LONGEST_INTERVAL);
  }

  #heartbeat(): void {
    const feeds: Message = this.#watchdog === undefined ? {} : { WATCHDOG: 1 };
    // The next beat may come in time to send what the queue has no room for now.
    this.#send({ ...this.#repeated(), ...feeds, ...this.#extension() }, 0);
  }

  /** systemd believes a successor nothing before it has seen that the main process is dead. */
  #repeated(): Message {
    if (!this.#mainPidUnconfirmed || !this.#accepts || this.#service.state().name !== "ready") return {};
    this.#status = "";
    return { READY: 1 };
  }

  /** While it upgrades or stops systemd's own timeouts wait for handover's. */
  #extension(): Message {
    const isQuiet = ["starting", "ready", "exited"].includes(this.#service.state().name);
    // Two beats: no longer than the watchdog, which systemd extends as well.
    return this.#waitsForOthers || !isQuiet
      ? { EXTEND_TIMEOUT_USEC: Math.round(this.#interval * 2 * 1_000) }
      : {};
  }

  #send(message: Message, patience?: number): void {
    if (!this.#isMain || !this.#notifier.isConnected) return;
    const status = describeStatus({
      state: this.#service.state(),
      generation: this.#generation,
      connections: this.#service.connections(),
      successor: this.#successor,
      lastFailure: this.#lastFailure,
      waitsForOthers: this.#waitsForOthers,
    });
    const news = status === this.#status ? {} : { STATUS: status };
    this.#status = status;
    const whole = { ...message, ...this.#extension(), ...news };
    if (Object.keys(whole).length > 0) this.#notifier.send(whole, [], patience);
  }
}

/** ms between two beats. */
const LONGEST_INTERVAL = 5_000;

/** CLOCK_MONOTONIC in µs, which is what Node's high-resolution time is. */
function monotonic(): string {
  return String(process.hrtime.bigint() / 1_000n);
}
