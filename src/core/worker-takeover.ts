import type { HandoverError } from "../errors.js";
import type { UpgradeRecord, UpgradeResult } from "../events.js";
import type { Exchange } from "../exchange/exchange.js";
import type { Peer } from "../exchange/parcel.js";
import type { ExchangeLink } from "../process/exchange-link.js";
import { deferred } from "../util/deferred.js";
import { runAll } from "../util/run-all.js";
import type { ProcessContext } from "./context.js";
import type { Succession } from "./succession.js";

/** The upgrade of a worker, from the moment at which it ceases. Its supervisor watches the successor, and decides. */
export class WorkerTakeover implements Succession {
  readonly pid: number;
  readonly #generation: number;
  readonly #context: ProcessContext;
  readonly #link: ExchangeLink | undefined;
  readonly #record: UpgradeRecord | undefined;
  readonly #settled = deferred<"confirmed" | "rolledBack">();
  readonly #probation = deferred<HandoverError | undefined>();
  #reason: HandoverError | undefined;

  /**
   * @param link to the successor
   * @param record of the upgrade, which is kept up to date; undefined if this worker leaves without a next one
   */
  constructor(
    context: ProcessContext,
    { pid, generation }: Peer,
    link: ExchangeLink | undefined,
    record: UpgradeRecord | undefined,
  ) {
    this.#context = context;
    this.pid = pid;
    this.#generation = generation;
    this.#link = link;
    this.#record = record;
    if (record !== undefined)
      Object.assign(record, { pid, to: generation, outcome: "probation", timings: NO_TIMINGS });
  }

  get exchange(): Exchange | undefined {
    return this.#link?.exchange;
  }

  get gone(): Promise<void> {
    return this.#link?.gone ?? Promise.resolve();
  }

  get confirmed(): Promise<boolean> {
    return this.#settled.promise.then((outcome) => outcome === "confirmed");
  }

  get result(): UpgradeResult {
    const { pid } = this;
    const generation = this.#generation;
    return { pid, generation, timings: NO_TIMINGS, staged: false, settled: this.#settled.promise };
  }

  async probation(): Promise<HandoverError | undefined> {
    return this.#probation.promise;
  }

  /** Gives the channels to older generations, which still drain, to the successor, and the last fence. */
  passOn(): void {
    const { predecessors, processState } = this.#context;
    this.#link?.passOn(predecessors.alive, processState.fences.last);
  }

  /** The supervisor has decided: the successor stays, or the upgrade is rolled back for `reason`. */
  settle(reason: HandoverError | undefined): void {
    this.#reason = reason;
    this.#probation.resolve(reason);
  }

  confirm(): void {
    const { sockets, inventory } = this.#context;
    runAll([
      () => sockets.closeSpares(),
      () => inventory.closeUsed(new Set()),
      () => this.#settled.resolve("confirmed"),
    ]);
  }

  announceStop(): void {
    // The supervisor stops all workers.
  }

  reclaimChannels(): void {
    const { predecessors, generation, env } = this.#context;
    runAll([() => predecessors.readAgain({ generation, pid: env.pid }), () => this.#link?.close()]);
  }

  recordRollback(): HandoverError {
    const error = this.#reason!;
    this.#settled.resolve("rolledBack");
    if (this.#record !== undefined) this.#context.history.fail(this.#record, "rolledBack", error);
    return error;
  }
}

/** The supervisor measures them. */
const NO_TIMINGS = { spawn: 0, ready: 0, commit: 0 };
