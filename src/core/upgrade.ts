import { deferred } from "../util/deferred.js";
import type { HandoverError } from "../errors.js";
import type { ProcessContext } from "./context.js";
import type { Rehearsal, UpgradeResult, UpgraderEvents, Timings, UpgradeRecord } from "../events.js";
import type { Exchange } from "../exchange/exchange.js";
import type { Successor } from "../process/successor.js";
import { aborted, startSuccessor, type ReadySuccessor } from "./start-successor.js";
import { stateError } from "../lifecycle.js";

/** One upgrade, from the spawn of the successor to the end of its probation. */
export class Upgrade {
  readonly #estate: ProcessContext;
  readonly #settled = deferred<"confirmed" | "rolledBack">();
  #child: Successor | undefined;
  #timings: Timings = { spawn: 0, ready: 0, commit: 0 };
  #probation: NodeJS.Timeout | undefined;
  /** A rehearsal has none. */
  readonly #record: UpgradeRecord | undefined;

  constructor(estate: ProcessContext, record?: UpgradeRecord) {
    this.#estate = estate;
    this.#record = record;
  }

  /** Starts the successor, waits until it is ready, and commits. When it rejects, the successor is dead. */
  async run(signal: AbortSignal | undefined): Promise<UpgradeResult> {
    const { settings, predecessors: older } = this.#estate;
    if (older.alive.length >= settings.maxDraining) throw stateError("ERR_TOO_MANY_DRAINING", "upgrade");
    try {
      return await this.#commit(await this.#start(signal), signal);
    } catch (error) {
      this.#forget();
      throw error;
    }
  }

  /** Starts the successor, waits until it is ready, and ends it. It is dead when this settles. */
  async rehearse(signal: AbortSignal | undefined): Promise<Rehearsal> {
    try {
      const { successor: child, spawn, ready } = await this.#start(signal);
      const { pid } = child;
      await child.endRehearsal();
      return { pid, generation: this.#estate.generation + 1, timings: { spawn, ready } };
    } finally {
      this.#forget();
    }
  }

  /** Where this process offers what it has. */
  get exchange(): Exchange | undefined {
    return this.#child?.exchange;
  }

  /** Resolves when there is no successor any more. */
  get gone(): Promise<void> | undefined {
    return this.#child?.gone;
  }

  /** Resolves at the end of probation: whether the successor stays. */
  get kept(): Promise<boolean> {
    return this.#settled.promise.then((how) => how === "confirmed");
  }

  /** Kills the successor that is not ready yet. */
  abandon(): void {
    this.#child?.fail(stateError("ERR_STOPPED", "upgrade"));
  }

  announceStopping(): void {
    this.#child?.sendStopping();
  }

  /** Tells that the successor accepts. */
  announce(): void {
    this.#estate.emit("upgraded", this.#described());
  }

  beginProbation(): void {
    const { settings, dispatch: happen } = this.#estate;
    void this.#child!.dead.then((how) => this.#onDeath(how));
    if (settings.probation === 0)
      return void this.#child!.detachProcess().then(() => happen("probationOver"));
    // It may have died in time, and this process been too busy to hear it.
    const settle = (): void =>
      void this.#child!.detachProcess().then(() => setImmediate(() => happen("probationOver")));
    this.#probation = setTimeout(settle, settings.probation);
    return undefined;
  }

  /** Nothing that a rollback needs is needed any more. */
  settle(): void {
    clearTimeout(this.#probation);
    this.#child!.sendConfirmed();
    this.#child!.disown();
    this.#estate.sockets.closeSpares();
    this.#estate.inventory.closeUsed(this.#child!.used);
    this.#settled.resolve("confirmed");
  }

  /** The successor is dead: all is as it was before. */
  rollBack(): void {
    const { sockets, predecessors: older, pidFile, emit: tell } = this.#estate;
    clearTimeout(this.#probation);
    sockets.resume();
    older.readAgain(this.#self);
    this.#child!.close();
    this.#forget();
    try {
      pidFile?.prepare();
      pidFile?.publish();
    } catch (error) {
      tell("failed", { error: error as HandoverError });
    }
    this.#settled.resolve("rolledBack");
  }

  async #start(signal: AbortSignal | undefined): Promise<ReadySuccessor> {
    const { settings, sockets, inventory, generation: number, report } = this.#estate;
    await sockets.bound();
    const listener = {
      spawned: (child: Successor) => this.#onSpawned(child),
      stopping: () => this.#estate.dispatch("peerStopping"),
      progress: report,
    };
    return startSuccessor(settings, number, inventory.forSuccessor(), listener, signal);
  }

  #onSpawned(child: Successor): void {
    this.#child = child;
    if (this.#record !== undefined) this.#record.pid = child.pid;
    this.#estate.processState.answerQueriesOf(child.exchange);
    // It was started while this process was asked to stop.
    if (this.#estate.state().name !== "upgrading") this.abandon();
    else this.#estate.emit("upgrading", { pid: child.pid, generation: this.#estate.generation + 1 });
  }

  /** Releases the roles, and says go. From there to the end of the turn nothing is accepted: the event loop does not run. */
  async #commit(successor: ReadySuccessor, signal: AbortSignal | undefined): Promise<UpgradeResult> {
    const { successor: child, spawn, ready } = successor;
    const start = performance.now();
    const failure = (await this.#prepare(signal)) ?? this.#sayGo(child);
    if (failure !== undefined) throw await this.#undo(child, failure);
    this.#timings = { spawn, ready, commit: performance.now() - start };
    Object.assign(this.#record!, { outcome: "probation", timings: this.#timings });
    this.#estate.dispatch("committed");
    return { ...this.#described(), settled: this.#settled.promise };
  }

  /** While this process still accepts. Returns what is in the way of the commit. */
  async #prepare(signal: AbortSignal | undefined): Promise<HandoverError | undefined> {
    try {
      await this.#estate.processState.roles.release();
    } catch (error) {
      return error as HandoverError;
    }
    if (this.#estate.state().name !== "upgrading") return stateError("ERR_STOPPED", "upgrade");
    return signal?.aborted ? aborted(signal) : undefined;
  }

  /** Returns what is in the way: that it is gone, or that what it has to be told with it cannot be sent. */
  #sayGo(child: Successor): HandoverError | "gone" | undefined {
    const { predecessors: older, sockets, processState: memory } = this.#estate;
    try {
      return child.sendCommit(older.alive, sockets.ticketKeys(), memory.fences.last) ? undefined : "gone";
    } catch (error) {
      return error as HandoverError;
    }
  }

  /** The successor is killed, and all is as it was. Returns what is to be thrown. */
  async #undo(child: Successor, failure: HandoverError | "gone"): Promise<HandoverError> {
    const { state, predecessors: older, processState: memory, emit: tell } = this.#estate;
    child.kill();
    const how = await child.dead;
    child.close();
    older.readAgain(this.#self);
    if (state().name !== "upgrading") return stateError("ERR_STOPPED", "upgrade");
    for (const error of await memory.roles.acquireAll()) tell("failed", { error });
    return failure === "gone" ? how : failure;
  }

  get #self(): { generation: number; pid: number } {
    return { generation: this.#estate.generation, pid: process.pid };
  }

  #onDeath(how: HandoverError): void {
    const { state, dispatch: happen, emit: tell } = this.#estate;
    const { pid } = this.#child!;
    // Its last words may be that it was told to stop.
    this.#child!.readNow();
    if (state().name !== "replaced") return;
    happen("successorDied");
    this.#estate.history.fail(this.#record!, "rolledBack", how);
    tell("rollback", { pid, error: how });
  }

  #described(): UpgraderEvents["upgraded"][0] {
    return { pid: this.#child!.pid, generation: this.#estate.generation + 1, timings: this.#timings };
  }

  /** What it had prepared, and could not take back. */
  #forget(): void {
    if (this.#child !== undefined) this.#estate.pidFile?.discard(this.#child.pid);
  }
}
