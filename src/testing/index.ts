/**
 * `handover/testing`: an `Upgrader` that never upgrades, for tests, and for development on systems that handover does
 * not support (Windows). It has the same members and checks the same options, but loads no addon, handles no signal
 * and writes no file. A process may have any number of them.
 *
 * @module
 */
import type { Socket as DatagramSocket } from "node:dgram";
import { EventEmitter } from "node:events";
import type { AddressInfo, Server } from "node:net";
import { type ConnectionAdapter, readAdapter } from "../connections/adapter.js";
import { asyncAtCaller, atCaller, throwAtCaller } from "../platform/at-caller.js";
import { deferred } from "../util/deferred.js";
import { HandoverError } from "../errors.js";
import type { UpgraderEvents } from "../events.js";
import { DrainContext } from "../exchange/drain-context.js";
import { FencingTokens } from "../exchange/fencing.js";
import type { RoleDefinition } from "../state/role.js";
import type { Slot, SlotDefinition } from "../state/slots/slots.js";
import { ProcessState } from "../state/process-state.js";
import type { UnitDefinition } from "../state/units/unit-definition.js";
import type { Units } from "../state/units/units.js";
import { type Outcome, stateError } from "../lifecycle.js";
import { readOptions, type UpgraderOptions } from "../options.js";
import type { Fds } from "../sockets/fds.js";
import {
  readBindOptions,
  readListenOptions,
  requireServer,
  requireSocket,
  type BindOptions,
  type ListenOptions,
} from "../sockets/listen-options.js";
import { StubFds } from "./stub-fds.js";
import { StubSockets } from "./stub-sockets.js";
import { noTotals } from "../metrics/totals.js";
import type { Upgrader as RealUpgrader } from "../upgrader.js";

/** Servers accept as soon as they listen; `stop()` closes them. It does not keep the event loop alive. */
export class Upgrader extends EventEmitter<UpgraderEvents> {
  readonly generation: number = 0;
  readonly hasParent: boolean = false;
  readonly worker: RealUpgrader["worker"] = undefined;
  readonly fds: Pick<Fds, keyof Fds> = new StubFds();
  readonly #sockets = new StubSockets();
  readonly #processState = new ProcessState(new FencingTokens(), {
    self: { generation: 0, pid: process.pid },
    directory: undefined,
    isAlone: true,
    predecessors: () => [],
    isLeaving: () => false,
    assertMayRun: (doing) => this.#requireOpen(doing),
  });
  readonly #drainTimeout: number;
  readonly #exit = deferred<Outcome>();
  #state: RealUpgrader["state"] = "starting";

  /** @throws {HandoverError} `ERR_OPTION` */
  constructor(options: UpgraderOptions = {}) {
    super();
    try {
      this.#drainTimeout = readOptions(options, process.cwd()).drainTimeout;
    } catch (error) {
      throwAtCaller(error, new.target);
    }
  }

  get state(): RealUpgrader["state"] {
    return this.#state;
  }

  /** Empty, because no upgrade happens. */
  readonly history: RealUpgrader["history"] = [];
  readonly totals: RealUpgrader["totals"] = noTotals();
  readonly hosts: RealUpgrader["hosts"] = undefined;

  get connections(): number {
    return this.#sockets.connections;
  }

  get exit(): Promise<Outcome> {
    return this.#exit.promise;
  }

  listen(
    server: Server,
    options: ListenOptions | number | string,
    host?: string,
  ): Promise<AddressInfo | string> {
    return asyncAtCaller(this, "listen", () => {
      this.#requireOpen("listen");
      requireServer(server);
      return this.#sockets.listen(server, readListenOptions(server, options, host, process.cwd()));
    });
  }

  bind(
    socket: DatagramSocket,
    options: BindOptions | number | string = {},
    address?: string,
  ): Promise<AddressInfo> {
    return asyncAtCaller(this, "bind", () => {
      this.#requireOpen("bind");
      requireSocket(socket);
      const { type } = socket as unknown as { type: string };
      return this.#sockets.bind(socket, readBindOptions(options, address, { type, ipv6Only: false }));
    });
  }

  /** Checks the adapter. No connection moves. */
  addConnections(adapter: ConnectionAdapter): void {
    atCaller(this, "addConnections", () => {
      this.#requireOpen("add connections");
      readAdapter(adapter);
    });
  }

  slot<T = unknown>(label: string, shape: SlotDefinition<T>): Slot<T> {
    return atCaller(this, "slot", () => this.#processState.slot(label, shape));
  }

  units<S = unknown, Unit = void>(kind: string, definition: UnitDefinition<S, Unit>): Units<S, Unit> {
    return atCaller(this, "units", () => this.#processState.units(kind, definition));
  }

  role(name: string, definition: RoleDefinition): Promise<void> {
    return asyncAtCaller(this, "role", () => {
      this.#requireOpen(`add the role "${name}"`);
      return this.#processState.roles.add(name, definition);
    });
  }

  ready(): Promise<void> {
    return asyncAtCaller(this, "ready", async () => {
      this.#requireOpen("get ready");
      if (this.#state !== "starting") return;
      this.#state = "ready";
      await this.#processState.roles.acquire();
      this.emit("ready", { generation: this.generation });
    });
  }

  /** @throws {HandoverError} `ERR_NOT_SUPPORTED`, always */
  readonly upgrade: RealUpgrader["upgrade"] = () =>
    asyncAtCaller(this, "upgrade", () => {
      const error = notSupported("upgrade");
      this.emit("failed", { error });
      throw error;
    });

  /** @throws {HandoverError} `ERR_NOT_SUPPORTED`, always */
  readonly rehearse: RealUpgrader["rehearse"] = () =>
    asyncAtCaller(this, "rehearse", () => {
      throw notSupported("rehearse");
    });

  /** @throws {HandoverError} `ERR_NOT_SUPPORTED`, always */
  readonly stage: RealUpgrader["stage"] = () =>
    asyncAtCaller(this, "stage", () => {
      throw notSupported("stage");
    });

  readonly unstage: RealUpgrader["unstage"] = () => undefined;

  readonly waitForParent: RealUpgrader["waitForParent"] = async () => {};

  async stop(): Promise<void> {
    if (this.#state === "starting" || this.#state === "ready") {
      this.#state = "draining";
      const timeout = this.#drainTimeout;
      const context = new DrainContext(undefined, Promise.resolve(true), timeout);
      this.#processState.beginDrain(context);
      this.emit("draining", { connections: this.#sockets.connections, timeout });
      const errors = await this.#processState.roles.releaseAll();
      const leaving = this.#processState.drain(context, Promise.resolve());
      const destroyed = await this.#sockets.close(timeout);
      const units = await leaving;
      context.end();
      for (const error of errors) this.emit("failed", { error });
      this.#state = "exited";
      this.emit("exit", { outcome: "stopped", destroyed, unsettled: 0, moved: 0, stayed: {}, units });
      this.#exit.resolve("stopped");
    }
    await this.#exit.promise;
  }

  #requireOpen(doing: string): void {
    if (this.#state === "draining" || this.#state === "exited") throw stateError("ERR_STOPPED", doing);
  }
}

function notSupported(doing: string): HandoverError {
  return new HandoverError("ERR_NOT_SUPPORTED", `cannot ${doing}: this is the stand-in of handover/testing`);
}

export { HandoverError, type ErrorCode, type RefusalCode } from "../errors.js";
