import { HandoverError, type UnitOwner } from "../errors.js";
import type { Ownership, OwnResult } from "../exchange/directory.js";
import { answer, DirectoryBatch, type Question } from "../exchange/directory-batch.js";
import type { HostDirectory } from "../exchange/hosts.js";
import type { FencingTokens } from "../exchange/fencing.js";
import type { Peer } from "../exchange/parcel.js";
import { batches } from "../util/batches.js";
import { TIMED_OUT, withTimeout } from "../util/timeout.js";
import type { Engine, Orphan } from "./engine.js";
import { isAmbiguous } from "./ambiguous-error.js";
import { Repeater } from "./repeater.js";
import type { Seat } from "./seat.js";

/** The directory of the units of all hosts, which the engine keeps. What is asked in one turn is asked together, batch after batch. */
export class EngineDirectory implements HostDirectory {
  lastAnswer = -Infinity;
  readonly #engine: Engine;
  readonly #seat: Seat;
  readonly #fences: FencingTokens;
  /** With the seats of those that offer units. */
  readonly #batch = new DirectoryBatch<string>(() => this.#send());
  readonly #orphans = new Map<string, (id: string, fence: number) => void>();
  /** Orphans by kind and ID that were asked for, as long as it is not known whether this process has them. */
  readonly #asked = new Map<string, Map<string, Orphan>>();
  readonly #seeking: Repeater;
  /** What was given up is told in order, and before a later question. */
  #telling: Promise<void> = Promise.resolve();

  constructor(engine: Engine, seat: Seat, fences: FencingTokens) {
    this.#engine = engine;
    this.#seat = seat;
    this.#fences = fences;
    this.#seeking = new Repeater(async () => this.#seek(), engine.lease);
    seat.onBeat(() => this.#seeking.now());
    seat.onLost(() => {
      this.#batch.dropDisowned();
      this.#asked.clear();
    });
  }

  async own(kind: string, ids: readonly string[], from?: Peer): Promise<readonly OwnResult[]> {
    return this.#batch.own(kind, ids, from?.seat);
  }

  disown(kind: string, units: readonly Ownership[]): void {
    this.#batch.disown(kind, units);
  }

  async where(kind: string, id: string): Promise<UnitOwner | undefined> {
    this.#send();
    await this.#telling;
    return this.#engine.where(kind, id);
  }

  orphans(kind: string, take: (id: string, fence: number) => void): () => void {
    this.#orphans.set(kind, take);
    return () => {
      if (this.#orphans.get(kind) === take) this.#orphans.delete(kind);
    };
  }

  /** Resolves when the engine has been told what was given up, or does not answer. */
  async flush(): Promise<void> {
    this.#send();
    await this.#telling;
  }

  stop(): void {
    this.#seeking.stop();
  }

  async #seek(): Promise<boolean> {
    for (const kind of this.#orphans.keys()) {
      // An answer is missing: this process may have units that it does not run.
      if (this.#asked.has(kind) && this.#seat.isHeld) await this.#takeOrphans(kind, true);
      if (!this.#seat.isTaking) continue;
      const { batch } = this.#engine;
      const found = await this.#engine.findOrphans(this.#seat.id, kind, batch);
      if (found.length === 0 || !this.#seat.isTaking) continue;
      this.#asked.set(kind, new Map(found.map((orphan) => [orphan.id, orphan])));
      await this.#takeOrphans(kind, false);
      if (found.length === batch) this.#seeking.now();
    }
    return false;
  }

  async #takeOrphans(kind: string, isRepeated: boolean): Promise<void> {
    const asked = this.#asked.get(kind)!;
    const taken = await this.#engine.takeOrphans(this.#seat.id, kind, [...asked.values()], isRepeated);
    // The lease may have ended meanwhile.
    if (this.#asked.get(kind) !== asked || !this.#seat.isHeld) return;
    this.#asked.delete(kind);
    for (const { id, fence } of taken) {
      this.#fences.advanceTo(fence);
      if (asked.has(id)) this.#orphans.get(kind)?.(id, fence);
    }
  }

  #send(): void {
    const { disowned, questions } = this.#batch.take();
    if (disowned.size > 0) this.#telling = this.#telling.then(async () => this.#tell(disowned));
    for (const { kind, from, all } of questions) void this.#ask(kind, from, all);
  }

  async #tell(disowned: ReadonlyMap<string, readonly Ownership[]>): Promise<void> {
    const seat = this.#seat.id;
    for (const [kind, units] of disowned)
      for (const some of this.#inBatches(units))
        // If the lease ends, all that it held is given up with it.
        while (this.#seat.id === seat && this.#seat.isHeld) {
          const isTold = await this.#engine.disown(seat, kind, some).then(
            () => true,
            async () => new Promise<boolean>((resolve) => setTimeout(resolve, RETRY, false)),
          );
          if (!isTold) continue;
          this.lastAnswer = performance.now();
          break;
        }
  }

  async #whenHeld(): Promise<void> {
    if ((await withTimeout(SEAT_TIMEOUT, this.#seat.whenHeld())) !== TIMED_OUT) return;
    const message = `cannot own units: this process has had no lease for ${SEAT_TIMEOUT} ms, as ${this.#engine.name} does not answer`;
    throw new HandoverError("ERR_EXCHANGE", message);
  }

  /** The first are answered before the last are asked for. What waits behind a question that fails, fails with it. */
  async #ask(kind: string, from: string | undefined, questions: readonly Question[]): Promise<void> {
    try {
      for (const some of this.#inBatches(questions)) await this.#askSome(kind, from, some);
    } catch (error) {
      for (const question of questions) question.reject(error);
    }
  }

  async #askSome(kind: string, from: string | undefined, questions: readonly Question[]): Promise<void> {
    await this.#telling;
    await this.#whenHeld();
    const seat = this.#seat.id;
    const ids = questions.map(({ id }) => id);
    const results = await this.#own(seat, kind, ids, from);
    this.lastAnswer = performance.now();
    // The lease may have ended meanwhile: the units are those of a seat that is lost, also if there is a new one.
    this.#seat.assertHeld(seat, `own ${ids.length} units`);
    for (const id of ids) this.#asked.get(kind)?.delete(id);
    for (const result of results) if (typeof result === "number") this.#fences.advanceTo(result);
    answer(questions, results);
  }

  /**
   * A question whose answer is missing may be done: the units would be this process's, and run nowhere. So it is asked again while
   * the lease lasts. Whoever has not waited for so long gives the units up then. It is asked a few times at most: each question that
   * waits for a lock in the database keeps a connection there.
   */
  async #own(...[seat, kind, ids, from]: Parameters<Engine["own"]>): Promise<(number | UnitOwner)[]> {
    let isUncertain = false;
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#engine.own(seat, kind, ids, from);
      } catch (error) {
        isUncertain ||= isAmbiguous(error);
        if (!isUncertain || attempt === ATTEMPTS || !this.#seat.isHeld || this.#seat.id !== seat) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY));
    }
  }

  #inBatches<T>(units: readonly T[]): T[][] {
    return batches(units, [this.#engine.batch], () => [1]);
  }
}

/** ms */
const RETRY = 100;
const ATTEMPTS = 3;

/** ms that a question waits for a lease, which a process that starts or has lost its own gets with the next answer. */
const SEAT_TIMEOUT = 5_000;
