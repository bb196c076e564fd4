import { reasonOf } from "../errors.js";
import { LATE, within } from "../limit.js";
import { decode, encode } from "./envelope.js";
import type { Parcel, Refusal } from "./parcel.js";
import type { Kind } from "./unit.js";

/** The kind of these parcels. */
export const KIND = "unit";

/** One unit: it runs here, or is frozen, or has moved. */
export class LiveUnit {
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
  readonly #kind: Kind;
  #controller = new AbortController();
  #freezing: Promise<unknown> = Promise.resolve();
  #state: unknown;

  constructor(kind: Kind, id: string, state: unknown, fence: number) {
    this.#kind = kind;
    this.id = id;
    this.started = this.#run(state, fence);
  }

  /** What it was frozen as, for its end here. */
  get state(): unknown {
    if (this.#state !== undefined || this.parcel === undefined) return this.#state;
    return decode(this.#kind.envelope, this.parcel);
  }

  /** Freezes it, if that has not been done. Returns why it could not. */
  async freeze(timeout: number): Promise<Refusal | undefined> {
    if (this.phase === "frozen") return undefined;
    try {
      const freezing = this.#freeze();
      this.#freezing = freezing instanceof Promise ? freezing.catch(() => {}) : this.#freezing;
      if ((await within(timeout, freezing)) !== LATE) return undefined;
      return { code: "ERR_TIMEOUT", reason: `freeze() took more than ${timeout} ms` };
    } catch (error) {
      return { code: "ERR_FREEZE", reason: reasonOf(error) };
    }
  }

  /** Encodes what it was frozen as. Returns why that could not be done. */
  pack(): Refusal | undefined {
    if (this.parcel !== undefined) return undefined;
    const { name, envelope } = this.#kind;
    try {
      const body = encode(envelope, this.#state, `unit ${name} "${this.id}"`);
      this.parcel = { kind: KIND, label: name, id: this.id, fds: [], ...body };
      this.#state = undefined;
      return undefined;
    } catch (error) {
      return { code: (error as { code: string }).code, reason: reasonOf(error) };
    }
  }

  /** Ends it as its program ends one: by its signal. */
  abort(): void {
    this.#controller.abort();
  }

  /** It runs here again, if it was frozen. */
  async revive(fence: number): Promise<void> {
    await this.#freezing;
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
    const started = this.#begin(state, fence);
    started.catch(() => {});
    return started;
  }

  async #begin(state: unknown, fence: number): Promise<unknown> {
    const { signal } = this.#controller;
    const running = this.#kind.definition.run(this.id, state, { signal, fence });
    return (this.unit = running instanceof Promise ? await running : running);
  }

  /** At once, if the program's `freeze` does: thousands are not to wait for a turn of their own. */
  #freeze(): void | Promise<void> {
    const frozen = this.#kind.definition.freeze(this.id, this.unit);
    return frozen instanceof Promise ? frozen.then((state) => this.#keep(state)) : this.#keep(frozen);
  }

  #keep(state: unknown): void {
    this.#state = state;
    this.phase = "frozen";
    this.#controller.abort();
  }
}
