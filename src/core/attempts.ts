import type { Rehearsal, Staged, UpgradeRecord } from "../events.js";
import { stateError, type Event } from "../lifecycle.js";
import type { SuccessorListener } from "../process/successor.js";
import { withTimeout } from "../util/timeout.js";
import { Candidate } from "./candidate.js";
import type { ProcessContext } from "./context.js";
import { Staging } from "./staging.js";
import { assertUpgradable } from "./upgrade-checks.js";

/** The generation that drives this process. */
interface AttemptsHost {
  readonly fromSuccessor: SuccessorListener;
  dispatch(event: Event): void;
  /** Resolves when the event has run; undefined if it has run in this turn. */
  request(event: Event): Promise<void> | undefined;
}

/** The attempts to replace this process, one at a time, each up to its commit: a candidate gets ready, or waits as staged. */
export class Attempts {
  readonly #context: ProcessContext;
  readonly #host: AttemptsHost;
  readonly #staging: Staging;
  /** The start of the last candidate. */
  #starting: Promise<unknown> | undefined;
  #candidate: Candidate | undefined;

  constructor(context: ProcessContext, host: AttemptsHost) {
    this.#context = context;
    this.#host = host;
    this.#staging = new Staging(context);
  }

  /** The successor that is held for a later upgrade. */
  get staged(): Staged | undefined {
    return this.#staging.staged;
  }

  /** @returns undefined if the attempt has begun in this turn, as it does unless it has to wait */
  request(doing: string, force: boolean): Promise<void> | undefined {
    assertUpgradable(this.#context, doing, force);
    const state = this.#context.state();
    // Who knows from the predecessor that the last upgrade is done must not be refused because its message was not read yet.
    if (state.name === "ready" && state.onProbation) {
      const { direct } = this.#context.predecessors;
      direct?.readNow();
      if (direct?.isGone) return direct.gone.then(async () => this.#host.request("upgrade"));
    }
    return this.#host.request("upgrade");
  }

  /** The successor of an upgrade that was requested: the one that is held, else a new one. It is ready. */
  async prepare(
    record: UpgradeRecord,
    signal: AbortSignal | undefined,
  ): Promise<{ candidate: Candidate; isStaged: boolean }> {
    const staged = this.#staging.take();
    const isStaged = staged !== undefined && (await this.#use(staged, record));
    const candidate = isStaged ? staged : await this.#start(signal, record);
    return { candidate, isStaged };
  }

  async rehearse(signal: AbortSignal | undefined, force: boolean): Promise<Rehearsal> {
    const requested = this.request("rehearse an upgrade", force);
    if (requested !== undefined) await requested;
    try {
      const candidate = await this.#start(signal);
      const { pid, generation, timings } = candidate;
      await candidate.endRehearsal();
      return { pid, generation, timings };
    } finally {
      this.end("rehearsed");
    }
  }

  /** Starts a successor, and holds it for at most `ttl` ms once it is ready. If one is held already, it stays. */
  async stage(ttl = DEFAULT_TTL, signal: AbortSignal | undefined, force: boolean): Promise<Staged> {
    const { staged } = this.#staging;
    if (staged !== undefined && this.#context.state().name === "ready") return staged;
    const requested = this.request("stage an upgrade", force);
    if (requested !== undefined) await requested;
    try {
      const candidate = await this.#start(signal);
      await candidate.stage(ttl, signal);
      if (this.#context.state().name !== "upgrading") throw stateError("ERR_STOPPED", "stage an upgrade");
      // In this turn, without an `await` in between.
      this.#candidate = undefined;
      this.#host.dispatch("staged");
      return this.#staging.hold(candidate, ttl);
    } catch (error) {
      this.end("failed");
      throw error;
    }
  }

  /** Ends the successor that is held. Returns it; undefined if there is none. */
  unstage(): Staged | undefined {
    if (this.#context.state().name === "upgrading")
      throw stateError("ERR_UPGRADE_IN_PROGRESS", "unstage an upgrade");
    const { staged } = this.#staging;
    this.#staging.end("it was unstaged");
    return staged;
  }

  /** A listener or descriptor was opened or closed. */
  inventoryChanged(): void {
    this.#staging.inventoryChanged();
  }

  /** Kills the candidate of the attempt: this process stops. */
  kill(): void {
    this.#candidate?.kill(stateError("ERR_STOPPED", "upgrade"));
  }

  /** Kills the successor that is held: this process stops. */
  killStaged(): void {
    this.#staging.kill();
  }

  /** Ends an attempt without a commit. If the successor cannot be killed, the attempt ends when it exits. */
  end(event: "failed" | "rehearsed"): void {
    const candidate = this.#candidate;
    const end = (): void => {
      candidate?.cleanUp();
      if (this.#candidate === candidate) this.#candidate = undefined;
      this.#host.dispatch(event);
    };
    if (candidate === undefined || candidate.isDead) end();
    else void candidate.dead.then(end);
  }

  /** The candidate has become the successor, and has died on probation. */
  onRollback(): void {
    this.#candidate = undefined;
  }

  /** Resolves when no candidate is being started, or ends: it would take the exit of this process for a crash, and accept. */
  async ended(): Promise<void> {
    await withTimeout(START_TIMEOUT, this.#starting).catch(() => {});
    await withTimeout(START_TIMEOUT, this.#staging.ending).catch(() => {});
  }

  /** Uses a successor that was staged. Returns false if it had to be thrown away. */
  async #use(candidate: Candidate, record: UpgradeRecord): Promise<boolean> {
    this.#candidate = candidate;
    const isUsable = await this.#staging.isUsable(candidate);
    if (this.#context.state().name !== "upgrading") throw stateError("ERR_STOPPED", "upgrade");
    const { pid, generation } = candidate;
    if (isUsable) {
      record.pid = pid;
      this.#context.emit("upgrading", { pid, generation, staged: true });
    } else this.#candidate = undefined;
    return isUsable;
  }

  /** Starts a successor, and waits until it is ready. */
  async #start(signal: AbortSignal | undefined, record?: UpgradeRecord): Promise<Candidate> {
    const { history, processState, state, emit } = this.#context;
    const { ending } = this.#staging;
    if (ending !== undefined) await ending;
    history.open();
    const starting = Candidate.start(this.#context, this.#host.fromSuccessor, signal);
    this.#starting = starting;
    const candidate = await starting;
    const { pid, generation, successor } = candidate;
    this.#candidate = candidate;
    if (record !== undefined) record.pid = pid;
    processState.answerQueriesOf(successor.exchange);
    if (state().name === "upgrading") emit("upgrading", { pid, generation });
    // This process was asked to stop while the successor was being started.
    else candidate.kill(stateError("ERR_STOPPED", "upgrade"));
    await candidate.ready(signal);
    return candidate;
  }
}

/** ms that a staged successor waits for its upgrade. */
const DEFAULT_TTL = 60_000;

/** ms. A candidate's process is known sooner: the launcher shell has 5 s to report it. */
const START_TIMEOUT = 10_000;
