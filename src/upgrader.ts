import type { Socket } from "node:dgram";
import { EventEmitter } from "node:events";
import type { AddressInfo, Server } from "node:net";
import { readAdapter, type ConnectionAdapter } from "./connections/adapter.js";
import type { ProcessContext } from "./core/context.js";
import { Generation } from "./core/generation.js";
import { HandoverError, reasonOf } from "./errors.js";
import type { Rehearsal, Staged, UpgradeRecord, UpgradeResult, UpgraderEvents } from "./events.js";
import type { HostsStatus } from "./exchange/hosts.js";
import { publicState, type Outcome } from "./lifecycle.js";
import type { Totals } from "./metrics/totals.js";
import { readOptions, type UpgraderOptions } from "./options.js";
import { prepareCompileCache, warnWithoutCompileCache } from "./process/compile-cache.js";
import { currentUpgrader, setCurrentUpgrader } from "./process/current.js";
import { systemEnv } from "./process/env.js";
import { asyncAtCaller, atCaller, throwAtCaller } from "./platform/at-caller.js";
import { native } from "./platform/native.js";
import { onSignals } from "./process/signals.js";
import { assertSupported } from "./process/support.js";
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
import type { RoleDefinition } from "./state/role.js";
import type { Slot, SlotDefinition } from "./state/slots/slots.js";
import type { UnitDefinition } from "./state/units/unit-definition.js";
import type { Units } from "./state/units/units.js";
import { abortSignal, flag, isReserved, milliseconds, refuseUnknown } from "./util/validation.js";

/** Options of `stage()`. */
export interface StageOptions extends AttemptOptions {
  /** ms for which the successor waits. Default 60 000. */
  ttl?: number;
}

/** Options of `upgrade()` and `rehearse()`. */
interface AttemptOptions {
  /** Kills the successor if it aborts before the commit. */
  signal?: AbortSignal | undefined;
  /** Upgrades under a process manager, too. */
  force?: boolean | undefined;
}

let inventoryOf: (upgrader: Upgrader) => ProcessContext["inventory"];

/** The names of the sockets that the predecessor had and that this process has not asked for yet; for `handover/auto`. */
export function unclaimedSockets(upgrader: Upgrader): string[] {
  const own = inventoryOf(upgrader).inherited();
  return own
    .filter(({ name, activation }) => !isReserved(name) && activation === undefined)
    .map(({ name }) => name);
}

/**
 * Upgrades this process to its new code without dropping anything. One per process, in the main thread.
 *
 * From the constructor until {@link Upgrader.exit} resolves it keeps the event loop alive.
 */
export class Upgrader extends EventEmitter<UpgraderEvents> {
  static {
    inventoryOf = (upgrader) => upgrader.#context.inventory;
  }

  /** The Upgrader of this process, also one that another copy of the package has made. Undefined before one is made. */
  static get current(): Upgrader | undefined {
    return currentUpgrader() as Upgrader | undefined;
  }

  /** 0 for the first process of the service; each upgrade adds 1. */
  readonly generation: number;
  /** Whether this process was started by an upgrade. */
  readonly hasParent: boolean;
  /** The place of this process among the workers of a supervisor; undefined without one. */
  readonly worker: { readonly index: number; readonly count: number } | undefined;
  readonly #generation: Generation;
  readonly #context: ProcessContext;
  #fds: Fds | undefined;
  #readiness: Promise<void> | undefined;

  /**
   * Reads the inheritance from the predecessor, if there is one: synchronous, bounded by `upgradeTimeout`.
   *
   * @throws {HandoverError} `ERR_OPTION`, `ERR_UPGRADER_EXISTS`, `ERR_NOT_SUPPORTED`; in a successor also
   *   `ERR_CHANNEL`, `ERR_PROTOCOL`, `ERR_UPGRADE_TIMEOUT`, `ERR_DESCRIPTOR`
   */
  constructor(options: UpgraderOptions = {}) {
    super();
    try {
      assertSupported();
      // A missing addon is found now, and not by the first upgrade.
      native();
      const { logicalCwd, warning } = systemEnv.launch;
      const settings = readOptions(options, logicalCwd);
      if (settings.compileCache !== undefined) {
        warnWithoutCompileCache();
        prepareCompileCache(settings.compileCache);
      }
      claimProcess(this);
      this.#generation = new Generation(settings, systemEnv, this);
      this.#context = this.#generation.context;
      onSignals(settings.signals, {
        upgrade: (isOwn) => {
          // A library sends the signal again after its cleanup, and means that this process is to end.
          if (isOwn && this.state !== "starting" && this.state !== "ready") return;
          void this.upgrade().catch(reportFailedUpgrade);
        },
        stop: () => void this.stop(),
      });
      const { generation, supervisor } = this.#context;
      this.generation = generation;
      this.hasParent = generation > 0;
      if (supervisor !== undefined) {
        const { index, count } = supervisor.place;
        this.worker = { index, count };
      }
      if (warning !== undefined) process.emitWarning(warning, { code: "HANDOVER_COMMAND" });
    } catch (error) {
      throwAtCaller(error, new.target);
    }
  }

  /** Descriptors that the next process inherits by name, for anything that is not a server. */
  get fds(): Fds {
    const { inventory } = this.#context;
    return (this.#fds ??= new Fds(inventory, () => this.#generation.assertAcceptsNew("add a descriptor")));
  }

  /** It is `draining` from the commit of an upgrade, or from a stop, and `ready` again after a rollback. */
  get state(): ReturnType<typeof publicState> {
    return publicState(this.#generation.state);
  }

  /** Connections that this process has. */
  get connections(): number {
    return this.#context.connections.size;
  }

  /** The last ten upgrades of the service, in any of its processes; the newest last. */
  get history(): readonly Readonly<UpgradeRecord>[] {
    return this.#context.history.records;
  }

  /** Totals of the service over all its generations. */
  get totals(): Totals {
    return this.#context.history.totals;
  }

  /** The part of this process in a service on several hosts; undefined without the option `exchange`. */
  get hosts(): HostsStatus | undefined {
    return this.#context.hosts?.status();
  }

  /** Resolves when this process has been replaced or stopped, has drained, and a rollback is impossible. */
  get exit(): Promise<Outcome> {
    return this.#generation.exit;
  }

  /**
   * Takes a server's listener from the predecessor, or binds it. The server accepts, and emits `listening`,
   * when this process is ready; after that at once.
   *
   * @param options or a port, or the path of a Unix socket, with a slash
   * @returns the bound address
   * @throws {HandoverError} `ERR_LISTEN`, `ERR_OPTION`; in a process that ends `ERR_UPGRADE_IN_PROGRESS`,
   *   `ERR_ALREADY_UPGRADED`, `ERR_STOPPED`
   */
  listen(
    server: Server,
    options: ListenOptions | number | string,
    host?: string,
  ): Promise<AddressInfo | string> {
    return asyncAtCaller(this, "listen", () => {
      requireServer(server);
      const wish = readListenOptions(server, options, host, systemEnv.launch.logicalCwd);
      this.#generation.assertAcceptsNew("listen");
      return this.#context.sockets.listen(server, wish);
    });
  }

  /**
   * Lets connections of a further protocol, on any server of this process, move to the next one. Call it before `ready()`.
   *
   * @throws {HandoverError} `ERR_OPTION`; in a process that ends as {@link listen}
   */
  addConnections(adapter: ConnectionAdapter): void {
    atCaller(this, "addConnections", () => {
      this.#generation.assertAcceptsNew("add connections");
      this.#context.connections.addAdapter(readAdapter(adapter));
    });
  }

  /**
   * Takes a datagram socket's descriptor from the predecessor, or binds it. The socket reads, and emits `listening`,
   * when this process is ready; after that at once. Until then `address()` answers, and datagrams to be sent wait.
   *
   * @returns the bound address
   * @throws {HandoverError} as {@link listen}
   */
  bind(socket: Socket, options: BindOptions | number | string = {}, address?: string): Promise<AddressInfo> {
    return asyncAtCaller(this, "bind", () => {
      requireSocket(socket);
      const wish = readBindOptions(options, address, kindOfSocket(socket));
      this.#generation.assertAcceptsNew("bind");
      return this.#context.sockets.bind(socket, wish);
    });
  }

  /**
   * A labelled piece of state that moves from the predecessor to this process, and from here to the successor. `label` has 1
   * to 512 characters; several calls with one label share the arriving state.
   *
   * @throws {HandoverError} `ERR_OPTION`
   */
  slot<T = unknown>(label: string, shape: SlotDefinition<T>): Slot<T> {
    return atCaller(this, "slot", () => this.#context.processState.slot(label, shape));
  }

  /**
   * Live things of one kind (sessions, rooms, actors). Each runs in exactly one process. In an upgrade they move
   * one by one. Units that cannot move are stopped, and so are all units at a stop.
   *
   * @throws {HandoverError} `ERR_OPTION`, also for a kind that exists already
   */
  units<State = unknown, Unit = void>(
    kind: string,
    definition: UnitDefinition<State, Unit>,
  ): Units<State, Unit> {
    return atCaller(this, "units", () => this.#context.processState.units(kind, definition));
  }

  /**
   * Work that exactly one generation does. The role is acquired when this process accepts, before `ready()` resolves. It is
   * released in an upgrade before the successor accepts, and at a stop. It is acquired again if the upgrade fails or is
   * rolled back.
   *
   * @returns when the role is held; before `ready()` at once
   * @throws {HandoverError} `ERR_OPTION`, `ERR_ROLE`; in a process that ends `ERR_UPGRADE_IN_PROGRESS`,
   *   `ERR_ALREADY_UPGRADED`, `ERR_STOPPED`
   */
  role(name: string, definition: RoleDefinition): Promise<void> {
    return asyncAtCaller(this, "role", () => {
      this.#generation.assertAcceptsNew(`add the role "${name}"`);
      return this.#context.processState.roles.add(name, definition);
    });
  }

  /**
   * Declares the program initialized. Resolves when this process accepts, which the predecessor has to allow. Idempotent.
   * After a failure it can be called again, unless this process accepts already: then the error stays.
   *
   * @throws {HandoverError} `ERR_PID_FILE`, `ERR_LISTEN` (also of the control socket), `ERR_UPGRADE_TIMEOUT`,
   *   `ERR_ROLE`, `ERR_STOPPED`
   */
  ready(): Promise<void> {
    return asyncAtCaller(this, "ready", () => {
      this.#readiness ??= this.#generation.ready().catch((error: unknown) => {
        this.#readiness = undefined;
        throw error;
      });
      return this.#readiness;
    });
  }

  /**
   * Starts a successor, waits until it is ready, and lets it accept. Resolves at this commit; `settled` resolves at the end
   * of probation. When it rejects, this process keeps serving.
   *
   * @param options.signal kills the successor if it aborts before the commit
   * @param options.force upgrades under a process manager, too
   * @throws {HandoverError} `ERR_NOT_READY`, `ERR_UPGRADE_IN_PROGRESS`, `ERR_ALREADY_UPGRADED`,
   *   `ERR_ON_PROBATION`, `ERR_TOO_MANY_DRAINING`, `ERR_MANAGER`, `ERR_PID_1`, `ERR_OPTION` (of `spawn`), `ERR_SPAWN`,
   *   `ERR_CHILD_EXITED`, `ERR_PROTOCOL`, `ERR_UPGRADE_TIMEOUT`, `ERR_ROLE`, `ERR_ABORTED`, `ERR_STOPPED`
   */
  upgrade(options: AttemptOptions = {}): Promise<UpgradeResult> {
    return asyncAtCaller(this, "upgrade", () => {
      const { signal, force } = readAttempt("upgrade()", options);
      return this.#generation.upgrade(signal, force);
    });
  }

  /**
   * Tries an upgrade without a commit: starts the new code up to its `ready()`, tells it that this was a rehearsal (event
   * `rehearsed`), and waits until it has exited. This process accepts throughout, keeps its roles, and refuses other
   * upgrades.
   *
   * @throws {HandoverError} as {@link upgrade}
   */
  rehearse(options: AttemptOptions = {}): Promise<Rehearsal> {
    return asyncAtCaller(this, "rehearse", () => {
      const { signal, force } = readAttempt("rehearse()", options);
      return this.#generation.rehearse(signal, force);
    });
  }

  /**
   * Starts a successor and brings it to its `ready()`, where it waits: the next `upgrade()` commits it at once. If it dies,
   * if its time is over, or if the command, the environment, a listener or the release changes, it is thrown away (event
   * `unstaged`), and the next upgrade starts another one. This process accepts throughout. While a successor is staged,
   * another call resolves with that one.
   *
   * @param options.ttl ms that it waits. Default 60 000
   * @param options.signal kills the successor if it aborts before it is staged
   * @param options.force stages under a process manager, too
   * @throws {HandoverError} as {@link upgrade}; also `ERR_NOT_SUPPORTED` if the new code has an earlier version of handover
   */
  stage(options: StageOptions = {}): Promise<Staged> {
    return asyncAtCaller(this, "stage", () => {
      const { signal, force } = readAttempt("stage()", options, ["ttl"]);
      const ttl = options.ttl === undefined ? undefined : milliseconds("ttl", options.ttl, 1);
      return this.#generation.stage(ttl, signal, force);
    });
  }

  /**
   * Ends the successor that is staged: it is told to exit.
   *
   * @returns the successor; undefined if none was staged
   * @throws {HandoverError} `ERR_UPGRADE_IN_PROGRESS`
   */
  unstage(): Staged | undefined {
    return atCaller(this, "unstage", () => this.#generation.unstage());
  }

  /** Stops this process: no more upgrades, no new connections. Resolves as `exit` does. Idempotent. */
  async stop(): Promise<void> {
    await this.#generation.stop();
  }

  /**
   * Resolves when the predecessor's process is gone; at once without one.
   *
   * @throws {HandoverError} `ERR_ABORTED`, `ERR_OPTION`
   */
  waitForParent(options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
    return asyncAtCaller(this, "waitForParent", () => {
      refuseUnknown("waitForParent()", options, ["signal"]);
      return this.#context.predecessors.waitForDirect(abortSignal(options.signal));
    });
  }
}

/**
 * Checks the options before the attempt begins: a wrong `signal` would end it halfway, and its successor would stay.
 *
 * @throws {HandoverError} `ERR_OPTION`
 */
function readAttempt(
  call: string,
  options: AttemptOptions,
  more: readonly string[] = [],
): { signal: AbortSignal | undefined; force: boolean } {
  refuseUnknown(call, options, ["signal", "force", ...more]);
  const { signal, force } = options;
  return { signal: abortSignal(signal), force: force === undefined ? false : flag("force", force) };
}

/** Claimed for the whole process: there may be two copies of this package in it. */
function claimProcess(upgrader: Upgrader): void {
  if (Upgrader.current !== undefined) {
    const message = "this process has an Upgrader already, which is Upgrader.current: there can be only one";
    throw new HandoverError("ERR_UPGRADER_EXISTS", message);
  }
  setCurrentUpgrader(upgrader);
}

/** An upgrade that a signal asked for has no caller that could report its error. */
function reportFailedUpgrade(error: unknown): void {
  process.stderr.write(`handover: upgrade failed: ${reasonOf(error)}\n`);
}
