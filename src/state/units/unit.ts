import { codeOf, reasonOf, toHandoverError } from "../../errors.js";
import { TIMED_OUT, withTimeout, isThenable } from "../../util/timeout.js";
import { decodeOwn, encode } from "../schema.js";
import { makeRefusal, type Parcel, type Refusal } from "../../exchange/parcel.js";
import type { UnitKind } from "./definition.js";

/** The kind of these parcels. */
export const UNIT_KIND = "unit";

/** One unit: it runs here, or is frozen, or has moved. */
export class Unit {
  readonly id: string;
  /** Resolves with what `run` returned. */
  started: Promise<unknown>;
  /** What `run` returned; undefined before. */
  unit: unknown;
  /** What it was frozen as, for the journey. */
  parcel: Parcel | undefined;
  /** How often somebody has died over it. */
  attempts = 0;
  phase: "running" | "frozen" | "moved" = "running";
  readonly #kind: UnitKind;
  #controller = new AbortController();
  /** What the program is at, to run it or to freeze it: it is asked for one after the other. */
  #pending: Promise<void> | undefined;
  /** Why it could not be frozen; undefined as long as nobody has asked for it. */
  #frozen: Promise<Refusal | undefined> | undefined;
  #isStarted = false;
  #state: unknown;

  constructor(kind: UnitKind, id: string, state: unknown, fence: number) {
    this.#kind = kind;
    this.id = id;
    this.started = this.#run(state, fence);
  }

  /** What it was frozen as, for its end here. */
  get state(): unknown {
    if (this.#state !== undefined || this.parcel === undefined) return this.#state;
    return decodeOwn(this.#kind.schema, this.parcel);
  }

  /** Whether `run` has returned. */
  get isStarted(): boolean {
    return this.#isStarted;
  }

  /** Whether its signal has aborted. */
  get isEnded(): boolean {
    return this.#controller.signal.aborted;
  }

  /** Freezes it, if that has not been tried. Returns why it could not. */
  freeze(timeout: number): Promise<Refusal | undefined> {
    return (this.#frozen ??= this.#freezeWithin(timeout));
  }

  async #freezeWithin(timeout: number): Promise<Refusal | undefined> {
    try {
      const freezing =
        this.#pending === undefined ? this.#freeze() : this.#pending.then(() => this.#freeze());
      if (freezing instanceof Promise) this.#await(freezing);
      if ((await withTimeout(timeout, freezing)) !== TIMED_OUT) return undefined;
      return makeRefusal("ERR_TIMEOUT", `freeze() took more than ${timeout} ms`);
    } catch (error) {
      return makeRefusal("ERR_FREEZE", reasonOf(error));
    }
  }

  /** Encodes what it was frozen as. Returns why that could not be done. */
  encode(): Refusal | undefined {
    if (this.parcel !== undefined) return undefined;
    const { name, schema } = this.#kind;
    try {
      const body = encode(schema, this.#state, `unit ${name} "${this.id}"`);
      this.parcel = { kind: UNIT_KIND, label: name, id: this.id, fds: [], ...body };
      this.#state = undefined;
      return undefined;
    } catch (error) {
      return makeRefusal(toHandoverError(error, "ERR_ENCODING", `encode ${name}`).code, reasonOf(error));
    }
  }

  /** Its ordinary end, frozen, where nobody has taken it. Whether that worked, in time; why not is counted. */
  async stop(timeout: number, count: (code: string) => void): Promise<boolean> {
    const { stop } = this.#kind.definition;
    try {
      if (stop === undefined) return true;
      const isCounted = this.#frozen !== undefined;
      const why = await this.freeze(timeout);
      if (why !== undefined && !isCounted) count(why.code);
      const stopped = await withTimeout(timeout, Promise.resolve(stop(this.id, this.state)));
      if (stopped === TIMED_OUT) count("ERR_TIMEOUT");
      return stopped !== TIMED_OUT;
    } catch (error) {
      count(codeOf(error, "ERR_STOP"));
      return false;
    } finally {
      this.abort();
    }
  }

  /** Ends it as its program ends one: by its signal. */
  abort(): void {
    this.#controller.abort(ENDED);
  }

  /** It runs here again, if it was frozen. */
  async restart(fence: number): Promise<void> {
    this.#frozen = undefined;
    await this.#pending;
    if (this.phase === "running") return;
    const { state } = this;
    this.parcel = undefined;
    this.#state = undefined;
    this.phase = "running";
    this.#controller = new AbortController();
    this.started = this.#run(state, fence);
    await this.started;
  }

  #run(state: unknown, fence: number): Promise<unknown> {
    this.#isStarted = false;
    const started = this.#begin(state, fence);
    started.catch(() => {});
    // Mostly it has been, and thousands need no promise for it.
    if (!this.#isStarted) this.#await(started);
    return started;
  }

  async #begin(state: unknown, fence: number): Promise<unknown> {
    const { signal } = this.#controller;
    const running = this.#kind.definition.run(this.id, state, { signal, fence });
    this.unit = isThenable(running) ? await running : running;
    this.#isStarted = true;
    return this.unit;
  }

  #await(work: Promise<unknown>): void {
    const over = work
      .catch(() => {})
      .then(() => {
        if (this.#pending === over) this.#pending = undefined;
      });
    this.#pending = over;
  }

  /** At once, if the program's `freeze` does: thousands are not to wait for a turn of their own. */
  #freeze(): void | Promise<void> {
    if (this.isEnded) return undefined;
    const frozen = this.#kind.definition.freeze(this.id, this.unit);
    if (!isThenable(frozen)) return this.#keep(frozen);
    return Promise.resolve(frozen).then((state) => this.#keep(state));
  }

  #keep(state: unknown): void {
    this.#state = state;
    this.phase = "frozen";
    this.#controller.abort(ENDED);
  }
}

/** The reason of every signal: to make an exception for each of 100,000 units takes half a second. */
const ENDED = new DOMException("the unit does not run here any more", "AbortError");
