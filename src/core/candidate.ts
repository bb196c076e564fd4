import { HandoverError, reasonOf } from "../errors.js";
import type { Timings } from "../events.js";
import { stateError } from "../lifecycle.js";
import { successorCommand, type Command } from "../process/command.js";
import { withCompileCache } from "../process/compile-cache.js";
import { lastUncaught } from "../process/exit-reason.js";
import { changeOf, identifyLaunch, type LaunchIdentity } from "../process/launch-identity.js";
import { startSuccessor } from "../process/start-successor.js";
import type { Successor, SuccessorListener } from "../process/successor.js";
import type { InventoryItem } from "../sockets/inventory.js";
import { awaitInput } from "../util/clock.js";
import type { ProcessContext } from "./context.js";

/** A successor before the commit: it was started, and becomes ready or dies. */
export class Candidate {
  readonly successor: Successor;
  readonly generation: number;
  readonly #context: ProcessContext;
  readonly #launch: LaunchIdentity;
  readonly #items: readonly InventoryItem[];
  #timings: Pick<Timings, "spawn" | "ready">;

  /**
   * Starts the successor, with every listener that is being bound right now. If none is, its process exists when this
   * returns: another listener of the signal that requested the upgrade may end this one in the same turn.
   *
   * @throws {HandoverError} `ERR_SPAWN`, `ERR_OPTION` (of `spawn`), `ERR_ABORTED`, `ERR_STOPPED`
   */
  static async start(
    context: ProcessContext,
    listener: SuccessorListener,
    signal: AbortSignal | undefined,
  ): Promise<Candidate> {
    const { env, sockets, connections, inventory, generation, state } = context;
    if (sockets.isBinding) await sockets.bound();
    // A successor that is started while this process ends would take the end for a crash, and accept.
    if (state().name !== "upgrading") throw stateError("ERR_STOPPED", "upgrade");
    if (signal?.aborted) throw abortError(signal);
    const start = env.clock.now();
    const command = plannedCommand(context);
    const launch = identifyLaunch(command);
    const items = inventory.forSuccessor();
    const successor = await startSuccessor(env, command, { generation, items }, listener);
    connections.prepare();
    return new Candidate(context, successor, launch, items, env.clock.now() - start);
  }

  private constructor(
    context: ProcessContext,
    successor: Successor,
    launch: LaunchIdentity,
    items: readonly InventoryItem[],
    spawnTime: number,
  ) {
    this.#context = context;
    this.successor = successor;
    this.generation = context.generation + 1;
    this.#launch = launch;
    this.#items = items;
    this.#timings = { spawn: spawnTime, ready: 0 };
  }

  get isDead(): boolean {
    return this.successor.isDead;
  }

  /** Resolves when no process of it is left. */
  get dead(): Promise<HandoverError> {
    return this.successor.dead;
  }

  get pid(): number {
    return this.successor.pid;
  }

  /** How long its start and its initialization took, in ms. */
  get timings(): Pick<Timings, "spawn" | "ready"> {
    return this.#timings;
  }

  /**
   * Resolves when the successor is ready. When it rejects, the successor is dead.
   *
   * @param signal kills the successor
   * @throws {HandoverError} `ERR_CHILD_EXITED`, `ERR_PROTOCOL`, `ERR_UPGRADE_TIMEOUT`, `ERR_ABORTED`, or the reason given
   *   to {@link kill}
   */
  async ready(signal: AbortSignal | undefined): Promise<void> {
    const { clock } = this.#context.env;
    const { upgradeTimeout } = this.#context.settings;
    const start = clock.now();
    const onLate = (): void => this.kill(this.#lateError(upgradeTimeout));
    const cancelTimeout = awaitInput(clock, upgradeTimeout, () => this.successor.readNow(), onLate);
    const abort = (): void => this.kill(abortError(signal));
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
    try {
      await this.successor.ready;
      this.#timings = { ...this.#timings, ready: clock.now() - start };
    } finally {
      cancelTimeout();
      signal?.removeEventListener("abort", abort);
    }
  }

  /**
   * Asks a successor that is ready to wait for a later upgrade. When this rejects, the successor is dead.
   *
   * @param ttl for how long, in ms
   * @param signal kills the successor if it has aborted by then
   * @throws {HandoverError} `ERR_NOT_SUPPORTED` by its version of handover, `ERR_UNRESPONSIVE`, `ERR_CHILD_EXITED`,
   *   `ERR_ABORTED`
   */
  async stage(ttl: number, signal: AbortSignal | undefined): Promise<void> {
    const silence = this.successor.canBeStaged ? await this.#askToWait(ttl) : tooOld();
    const why = silence ?? (signal?.aborted ? abortError(signal) : undefined);
    if (why === undefined) return;
    this.kill(why);
    const how = await this.successor.deadOrUnkillable;
    throw this.isDead ? why : how;
  }

  /** Whether the successor has every listener and descriptor that this process has now, and no other. */
  get hasInventory(): boolean {
    const now = this.#context.inventory.forSuccessor();
    return now.length === this.#items.length && now.every((item) => this.#items.includes(item));
  }

  /**
   * Why a successor that was staged is not used: it is not the one that an upgrade would start now, or it does not answer.
   * Undefined if it is used. From then on its timings are those of the upgrade.
   */
  async whyOutdated(): Promise<string | undefined> {
    const { env, settings } = this.#context;
    const start = env.clock.now();
    try {
      const change = changeOf(this.#launch, identifyLaunch(plannedCommand(this.#context)));
      if (change !== undefined) return change;
    } catch (error) {
      return reasonOf(error);
    }
    const silence = await this.#askToWait(settings.upgradeTimeout);
    if (silence !== undefined) return silence.message;
    this.#timings = { spawn: 0, ready: env.clock.now() - start };
    return undefined;
  }

  /** Returns why the successor does not wait for `ttl` ms: it is dead, or does not answer. Undefined if it waits. */
  async #askToWait(ttl: number): Promise<HandoverError | undefined> {
    if (await this.successor.stage(ttl)) return undefined;
    if (this.isDead) return this.dead;
    return new HandoverError("ERR_UNRESPONSIVE", `the successor (pid ${this.pid}) did not answer`);
  }

  /** Kills the successor: {@link ready} rejects with `reason`, once it is dead. */
  kill(reason: HandoverError): void {
    this.successor.fail(reason);
  }

  #lateError(timeout: number): HandoverError {
    const message = `the successor (pid ${this.pid}) was not ready within ${timeout} ms, and was killed`;
    return new HandoverError("ERR_UPGRADE_TIMEOUT", message + lastUncaught(this.successor.uncaught));
  }

  /** Ends a rehearsal: the successor has exited when this resolves. */
  async endRehearsal(): Promise<void> {
    await this.successor.endRehearsal();
  }

  /** After its death: closes the channel, and removes the file that it could not remove itself. */
  cleanUp(): void {
    this.successor.close();
    this.#context.pidFile?.discardOf(this.pid);
  }
}

/** @throws {HandoverError} `ERR_OPTION` (of `spawn`), `ERR_SPAWN` */
function plannedCommand({ env, settings }: ProcessContext): Command {
  const command = successorCommand(env.launch, settings.spawn());
  return { ...command, env: withCompileCache(command.env, settings.compileCache) };
}

function tooOld(): HandoverError {
  return new HandoverError(
    "ERR_NOT_SUPPORTED",
    "cannot stage an upgrade: the new code has a version of handover that cannot wait for it",
  );
}

/** The error of an upgrade that was aborted. */
export function abortError(signal: AbortSignal | undefined): HandoverError {
  const { reason } = signal ?? {};
  if (reason instanceof HandoverError) return reason;
  return new HandoverError("ERR_ABORTED", "the upgrade was aborted", { cause: reason });
}
