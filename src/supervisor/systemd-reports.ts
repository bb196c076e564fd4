import type { OwnLaunch } from "../process/launch-info.js";
import { warnAboutUnused } from "../systemd/activation.js";
import { readEnvironment } from "../systemd/environment.js";
import { monotonic, Notifier, type Message } from "../systemd/notify.js";
import { DescriptorStore } from "../systemd/store.js";
import { systemClock } from "../util/clock.js";
import type { Supervisor } from "./supervisor.js";

/**
 * Reports the service to systemd. The supervisor is the main process of the service from the start to the end; its workers
 * report nothing.
 */
export class SystemdReports {
  readonly #supervisor: Supervisor;
  readonly #notifier: Notifier;
  readonly #store: DescriptorStore;
  readonly #watchdog: number | undefined;
  readonly #began = systemClock.now();
  #timer: NodeJS.Timeout | undefined;
  #lastFailure: string | undefined;
  /** The last STATUS. */
  #status = "";

  /**
   * @param launch how this process was started
   * @param stored the names in systemd's descriptor store
   */
  constructor(supervisor: Supervisor, launch: OwnLaunch, stored: readonly string[]) {
    const { notifySocket, watchdog } = readEnvironment(launch);
    this.#supervisor = supervisor;
    this.#notifier = new Notifier(notifySocket);
    this.#store = new DescriptorStore(this.#notifier, stored);
    this.#watchdog = watchdog;
    this.#subscribe();
    // If systemd does not wait for READY=1, the watchdog runs from the start.
    if (this.#notifier.isConnected) this.#timer = setInterval(() => this.#beat(), this.#interval).unref();
    this.#beat();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #subscribe(): void {
    const { events, listeners } = this.#supervisor;
    events.once("ready", () => {
      warnAboutUnused(listeners.unused);
      listeners.closeStored();
      this.#storeListeners();
      this.#send({ READY: 1 });
    });
    events.on("upgrading", () => {
      // Workers that are only staged change nothing.
      if (this.#supervisor.state !== "upgrading") return;
      this.#lastFailure = undefined;
      this.#send({ RELOADING: 1, MONOTONIC_USEC: monotonic() });
    });
    events.on("upgraded", () => this.#send({}));
    events.on("recorded", ({ outcome, reason }) => {
      const how = outcome === "rolledBack" ? "rolled back" : "upgrade failed";
      if (outcome !== "confirmed") this.#lastFailure = `${how}: ${reason}`;
      if (this.#supervisor.state !== "ready") return;
      this.#storeListeners();
      this.#send({ READY: 1 });
    });
    events.on("draining", () => {
      if (this.#supervisor.state !== "draining") return;
      // The next start after a restart uses these sockets. One with a file is left out, because a stop unlinks the file.
      this.#store.sync(listeners.stored.filter(({ file }) => file === undefined));
      this.#send({ STOPPING: 1 });
    });
  }

  #storeListeners(): void {
    this.#store.sync(this.#supervisor.listeners.stored);
  }

  /** Half the watchdog's interval, or often enough to show the number of connections. */
  get #interval(): number {
    return Math.min((this.#watchdog ?? Infinity) / 2, MAX_INTERVAL);
  }

  #beat(): void {
    const { state } = this.#supervisor;
    if (state === "ready") this.#storeListeners();
    // A full queue must not block: the next beat may come in time.
    this.#send(this.#watchdog === undefined || !this.#isAlive ? {} : { WATCHDOG: 1 }, 0);
  }

  /** While a service starts or stops other times end it. A worker that is silent for long does not serve. */
  get #isAlive(): boolean {
    const { state, pool } = this.#supervisor;
    const workers = pool.indexes.map((index) => pool.acceptor(index));
    const serves = workers.some((worker) => worker !== undefined && worker.silence < this.#watchdog! / 2);
    return serves || !["ready", "upgrading"].includes(state);
  }

  /** While workers start or drain systemd's timeouts must wait for those of the supervisor. */
  #extension(): Message {
    const { state, settings } = this.#supervisor;
    const starts = state === "starting" && systemClock.now() - this.#began < settings.readyTimeout;
    // Two beats, which is not longer than the watchdog's interval: systemd extends that as well.
    return starts || state === "upgrading" || state === "draining"
      ? { EXTEND_TIMEOUT_USEC: Math.round(this.#interval * 2 * 1_000) }
      : {};
  }

  #send(message: Message, timeout?: number): void {
    const status = this.#describe();
    const change = status === this.#status ? {} : { STATUS: status };
    this.#status = status;
    const whole = { ...message, ...this.#extension(), ...change };
    if (Object.keys(whole).length > 0) this.#notifier.send(whole, [], timeout);
  }

  /** The state of the service, for people: `systemctl status` shows it. */
  #describe(): string {
    const { state, generation, connections, pool } = this.#supervisor;
    const serving = pool.indexes.filter((index) => pool.acceptor(index) !== undefined).length;
    const workers = `${serving} of ${count(pool.indexes.length, "worker")} accept${serving === 1 ? "s" : ""}`;
    const all = `${workers}, ${count(connections, "connection")}`;
    switch (state) {
      case "starting":
        return `generation ${generation} initializes: ${workers}`;
      case "upgrading":
        return `upgrading: ${all}`;
      case "ready":
        return `${this.#lastFailure === undefined ? "" : `${this.#lastFailure}; `}generation ${generation}: ${all}`;
      default:
        return `stopping, ${count(connections, "connection")}`;
    }
  }
}

function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

/** ms between two beats. */
const MAX_INTERVAL = 5_000;
