import { reasonOf, toHandoverError, type HandoverError } from "../errors.js";
import type { Staged } from "../events.js";
import { stateError } from "../lifecycle.js";
import type { Candidate } from "./candidate.js";
import type { ProcessContext } from "./context.js";

/** A candidate that is ready and waits for an upgrade. */
interface HeldCandidate {
  readonly candidate: Candidate;
  readonly expires: number;
  readonly cancelExpiry: () => void;
}

/** The successor that is held ready for a later upgrade; there is at most one. */
export class Staging {
  readonly #context: ProcessContext;
  #held: HeldCandidate | undefined;
  #ending: Promise<void> | undefined;

  constructor(context: ProcessContext) {
    this.#context = context;
  }

  /** The successor that is held. */
  get staged(): Staged | undefined {
    if (this.#held === undefined) return undefined;
    const { candidate, expires } = this.#held;
    return { pid: candidate.pid, generation: candidate.generation, expires };
  }

  /** Holds a candidate that is ready, for at most `ttl` ms. */
  hold(candidate: Candidate, ttl: number): Staged {
    const expire = (): void => this.end(`its time of ${ttl} ms is over`);
    const cancelExpiry = this.#context.env.clock.after(ttl, expire);
    this.#held = { candidate, expires: Date.now() + ttl, cancelExpiry };
    void candidate.dead.then((how) => this.#onDeath(candidate, how));
    const staged = this.staged!;
    this.#context.emit("staged", staged);
    this.inventoryChanged();
    return staged;
  }

  /** A successor holds what it was given: the port of a listener that was closed here would stay open. */
  inventoryChanged(): void {
    if (this.#held?.candidate.hasInventory === false)
      this.end("a listener or descriptor was opened or closed");
  }

  /** Gives the candidate to the caller, who ends it or commits it. Undefined if none is held. */
  take(): Candidate | undefined {
    const candidate = this.#held?.candidate;
    this.#held?.cancelExpiry();
    this.#held = undefined;
    return candidate;
  }

  /** Throws away the successor that is held: it is told to exit. */
  end(reason: string): void {
    const candidate = this.take();
    if (candidate === undefined) return;
    this.#endTaken(candidate, reason).catch((error: unknown) => {
      const failure = toHandoverError(error, "ERR_INTERNAL", "end a staged successor");
      this.#context.emit("failed", { error: failure });
    });
  }

  /**
   * Whether a candidate that was taken is the one that an upgrade would start now. Otherwise it is thrown away, and dead when
   * this resolves.
   *
   * @throws {HandoverError} `ERR_UNKILLABLE`
   */
  async isUsable(candidate: Candidate): Promise<boolean> {
    const why = await candidate.whyOutdated();
    if (why !== undefined) await this.#endTaken(candidate, why);
    return why === undefined;
  }

  async #endTaken(candidate: Candidate, reason: string): Promise<void> {
    this.#report(candidate, reason);
    this.#awaitEnd(candidate, candidate.endRehearsal());
    await this.#ending;
  }

  /**
   * Resolves when a candidate that was thrown away is dead: it may hold something that the next one needs. Rejects with
   * `ERR_UNKILLABLE`. Undefined if there is none.
   */
  get ending(): Promise<void> | undefined {
    return this.#ending;
  }

  /** Kills the successor that is held: this process stops, and the end of the channel would make it accept. */
  kill(): void {
    const candidate = this.take();
    if (candidate === undefined) return;
    candidate.kill(stateError("ERR_STOPPED", "commit the staged successor"));
    this.#report(candidate, "this process is stopping");
    this.#awaitEnd(candidate, candidate.dead);
  }

  #awaitEnd(candidate: Candidate, ending: Promise<unknown>): void {
    const ended = ending.then(() => {});
    this.#ending = ended;
    void candidate.dead.then(() => {
      candidate.cleanUp();
      if (this.#ending === ended) this.#ending = undefined;
    });
  }

  #onDeath(candidate: Candidate, how: HandoverError): void {
    if (this.#held?.candidate !== candidate) return;
    this.take();
    candidate.cleanUp();
    this.#report(candidate, reasonOf(how));
  }

  #report({ pid, generation }: Candidate, reason: string): void {
    this.#context.emit("unstaged", { pid, generation, reason });
  }
}
