import type { Socket } from "node:dgram";
import { EventEmitter } from "node:events";
import type { AddressInfo, Server } from "node:net";
import { ControlServer } from "./control/server.js";
import { type ConnectionAdapter, readAdapter } from "./connections/adapter.js";
import { HandoverError, reasonOf } from "./errors.js";
import type { ProcessContext } from "./core/context.js";
import {
  publish,
  type Rehearsal,
  type UpgradeResult,
  type UpgraderEvents,
  type UpgradeRecord,
} from "./events.js";
import { Generation } from "./core/generation.js";
import type { StateSchema } from "./state/schema.js";
import type { RoleDefinition } from "./state/roles.js";
import type { Slot } from "./state/slots/slots.js";
import type { UnitDefinition } from "./state/units/definition.js";
import type { Units } from "./state/units/units.js";
import { publicState, type Outcome } from "./lifecycle.js";
import { readOptions, type UpgraderOptions } from "./options.js";
import { launchInfo } from "./process/command.js";
import { onSignals } from "./process/signals.js";
import { assertSupported, warnAboutProcessManager } from "./process/support.js";
import { Fds } from "./sockets/fds.js";
import {
  readBindOptions,
  readListenOptions,
  requireServer,
  requireSocket,
  type BindOptions,
  type ListenOptions,
} from "./sockets/listen-options.js";
import { kindOfSocket } from "./sockets/sockets.js";
import type { Totals } from "./metrics/totals.js";

/**
 * Upgrades this process to its new code without dropping anything. One per process, in the main thread.
 *
 * From the constructor until {@link Upgrader.exit} resolves it keeps the event loop alive.
 */
export class Upgrader extends EventEmitter<UpgraderEvents> {
  /** 0 for the first process of the service; each upgrade adds 1. */
  readonly generation: number;
  /** Whether this process was started by an upgrade. */
  readonly hasParent: boolean;
  /** Descriptors that are handed on by name, for what is no server. */
  readonly fds: Fds;
  readonly #generation: Generation;
  readonly #estate: ProcessContext;
  #readiness: Promise<void> | undefined;

  /**
   * Reads what the predecessor hands on, if there is one: synchronous, bounded by `upgradeTimeout`.
   *
   * @throws {HandoverError} `ERR_OPTION`, `ERR_UPGRADER_EXISTS`, `ERR_NOT_SUPPORTED`; in a successor also
   *   `ERR_PROTOCOL`, `ERR_UPGRADE_TIMEOUT`, `ERR_DESCRIPTOR`
   */
  constructor(options: UpgraderOptions = {}) {
    super();
    assertSupported();
    const settings = readOptions(options, launchInfo.logicalCwd);
    claimProcess();
    const generation = new Generation(settings, (event, payload) => this.#tell(event, payload));
    onSignals(settings.signals, {
      upgrade: () => void this.upgrade().catch(complain),
      stop: () => void generation.stop(),
    });
    const { generation: number, predecessors: older, inventory } = generation.estate;
    this.#generation = generation;
    this.#estate = generation.estate;
    this.generation = number;
    this.hasParent = older.direct !== undefined;
    this.fds = new Fds(inventory, () => generation.requireOpen("add a descriptor"));
    if (settings.controlSocket !== undefined) generation.control = new ControlServer(this, generation);
    if (launchInfo.warning !== undefined)
      process.emitWarning(launchInfo.warning, { code: "HANDOVER_COMMAND" });
    warnAboutProcessManager();
  }

  /** `draining` from the commit of an upgrade, or a stop, on; `ready` again after a rollback. */
  get state(): ReturnType<typeof publicState> {
    return publicState(this.#generation.state);
  }

  /** How many connections this process has. */
  get connections(): number {
    return this.#estate.connections.size;
  }

  /** The last ten upgrades of the service, the newest last, whichever process they began in. */
  get history(): readonly Readonly<UpgradeRecord>[] {
    return this.#estate.history.records;
  }

  /** What has happened in the service, over all its generations. */
  get totals(): Totals {
    return this.#estate.history.totals;
  }

  /** Resolves when this process was replaced or stopped, has drained, and it cannot be undone. */
  get exit(): Promise<Outcome> {
    return this.#generation.exit;
  }

  /**
   * Takes a server's listener from the predecessor, or binds it. The server accepts, and emits `listening`,
   * when this process is ready; afterwards at once.
   *
   * @param options or a port, or the path of a Unix socket, with a slash
   * @returns the bound address
   * @throws {HandoverError} `ERR_LISTEN`, `ERR_OPTION`; where it is too late `ERR_UPGRADE_IN_PROGRESS`,
   *   `ERR_ALREADY_UPGRADED`, `ERR_STOPPED`
   */
  async listen(
    server: Server,
    options: ListenOptions | number | string,
    host?: string,
  ): Promise<AddressInfo | string> {
    requireServer(server);
    const wish = readListenOptions(options, host, launchInfo.logicalCwd);
    this.#generation.requireOpen("listen");
    return this.#estate.sockets.listen(server, wish);
  }

  /**
   * Connections of a further protocol, on any server of this process, can move to the next one. To be called
   * before `ready()`.
   *
   * @throws {HandoverError} `ERR_OPTION`; where it is too late as {@link listen}
   */
  addConnections(adapter: ConnectionAdapter): void {
    this.#generation.requireOpen("add connections");
    this.#estate.connections.addAdapter(readAdapter(adapter));
  }

  /**
   * Takes a datagram socket's descriptor from the predecessor, or binds it. The socket reads, and emits `listening`,
   * when this process is ready; afterwards at once. Until then `address()` answers, and what is sent waits.
   *
   * @returns the bound address
   * @throws {HandoverError} as {@link listen}
   */
  async bind(
    socket: Socket,
    options: BindOptions | number | string = {},
    address?: string,
  ): Promise<AddressInfo> {
    requireSocket(socket);
    const wish = readBindOptions(options, address, kindOfSocket(socket));
    this.#generation.requireOpen("bind");
    return this.#estate.sockets.bind(socket, wish);
  }

  /**
   * A labelled piece of state that moves to the next process, or comes from the one before. `label` has 1 to 512
   * characters; several calls with one label share what arrives.
   *
   * @throws {HandoverError} `ERR_OPTION`
   */
  slot<T = unknown>(label: string, shape: StateSchema<T>): Slot<T> {
    return this.#estate.processState.slot(label, shape);
  }

  /**
   * Live things of one kind (sessions, rooms, actors), each of which runs in exactly one process. In an upgrade they move
   * one by one; those that cannot, and all at a stop, are stopped.
   *
   * @throws {HandoverError} `ERR_OPTION`, also for a kind that there is already
   */
  units<State = unknown, Unit = void>(
    kind: string,
    definition: UnitDefinition<State, Unit>,
  ): Units<State, Unit> {
    return this.#estate.processState.units(kind, definition);
  }

  /**
   * Something that runs in exactly one generation. It is acquired when this process accepts, before `ready()` resolves;
   * released in an upgrade before the successor accepts, and at a stop; acquired again if the upgrade fails, or is
   * rolled back.
   *
   * @returns when it is held; before `ready()` at once
   * @throws {HandoverError} `ERR_OPTION`, `ERR_ROLE`; where it is too late `ERR_UPGRADE_IN_PROGRESS`,
   *   `ERR_ALREADY_UPGRADED`, `ERR_STOPPED`
   */
  async role(name: string, definition: RoleDefinition): Promise<void> {
    this.#generation.requireOpen(`add the role "${name}"`);
    await this.#estate.processState.roles.add(name, definition);
  }

  /**
   * The program is initialised. Resolves when this process accepts, which the predecessor has to allow.
   * Idempotent; after a failure it can be called again, unless this process accepts already: then the answer stays.
   *
   * @throws {HandoverError} `ERR_PID_FILE`, `ERR_LISTEN` (also of the control socket), `ERR_UPGRADE_TIMEOUT`,
   *   `ERR_ROLE`, `ERR_STOPPED`
   */
  ready(): Promise<void> {
    this.#readiness ??= this.#generation.ready().catch((error: unknown) => {
      this.#readiness = undefined;
      throw error;
    });
    return this.#readiness;
  }

  /**
   * Starts a successor, waits until it is ready, and lets it accept. Resolves at this commit; the end of
   * probation is `settled`. When it rejects, this process serves on.
   *
   * @param options.signal kills the successor, if it is aborted before the commit
   * @throws {HandoverError} `ERR_NOT_READY`, `ERR_UPGRADE_IN_PROGRESS`, `ERR_ALREADY_UPGRADED`,
   *   `ERR_ON_PROBATION`, `ERR_TOO_MANY_DRAINING`, `ERR_PID_1`, `ERR_OPTION` (of `spawn`), `ERR_SPAWN`,
   *   `ERR_CHILD_EXITED`, `ERR_PROTOCOL`, `ERR_UPGRADE_TIMEOUT`, `ERR_ROLE`, `ERR_ABORTED`, `ERR_STOPPED`
   */
  async upgrade(options: { signal?: AbortSignal | undefined } = {}): Promise<UpgradeResult> {
    try {
      return await this.#generation.upgrade(options.signal);
    } catch (error) {
      this.#tell("failed", { error: error as HandoverError });
      throw error;
    }
  }

  /**
   * Tries whether an upgrade would work: starts the new code up to its `ready()`, tells it that this was a rehearsal
   * (event `rehearsed`), and ends it. This process accepts all the time, and keeps its roles. Other upgrades are refused
   * meanwhile.
   *
   * @throws {HandoverError} as {@link upgrade}
   */
  async rehearse(options: { signal?: AbortSignal | undefined } = {}): Promise<Rehearsal> {
    return this.#generation.rehearse(options.signal);
  }

  /** Stops for good: no more upgrades, no new connections. Resolves as `exit` does. Idempotent. */
  async stop(): Promise<void> {
    await this.#generation.stop();
  }

  /**
   * Resolves when the parent's process is gone; at once without a parent.
   *
   * @throws {HandoverError} `ERR_ABORTED`
   */
  async waitForParent(options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
    await this.#estate.predecessors.waitForParent(options.signal);
  }

  /** An exception of a listener is the program's, and must not stop an upgrade half-way. */
  #tell<E extends keyof UpgraderEvents>(event: E, payload: UpgraderEvents[E][0]): void {
    publish(event, payload);
    try {
      (this as EventEmitter).emit(event, payload);
    } catch (error) {
      process.nextTick(() => {
        throw error;
      });
    }
  }
}

/** Registered for the whole process, as there may be two copies of this package in it. */
function claimProcess(): void {
  const claimed = globalThis as { [EXISTS]?: true };
  if (claimed[EXISTS]) {
    throw new HandoverError(
      "ERR_UPGRADER_EXISTS",
      "this process has an Upgrader already: there can be only one",
    );
  }
  claimed[EXISTS] = true;
}

const EXISTS = Symbol.for("handover.upgrader");

/** Nobody waits for an upgrade that a signal has asked for. */
function complain(error: unknown): void {
  process.stderr.write(`handover: upgrade failed: ${reasonOf(error)}\n`);
}
