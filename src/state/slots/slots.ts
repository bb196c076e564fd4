import { reasonOf } from "../../errors.js";
import { LATE } from "../../util/timeout.js";
import { milliseconds, refuseUnknown, wrongOption } from "../../util/validation.js";
import type { Departure } from "../drain-context.js";
import { decode, encode, readName, readShape, type Envelope, type Shape } from "../schema.js";
import type { Exchange } from "../../exchange/exchange.js";
import type { Fences } from "../../exchange/fencing.js";
import { Initiated, KIND, type SlotOutcome } from "./pending-slot.js";
import type { Parcel } from "../../exchange/parcel.js";
import { SlotQueue } from "./slot-queue.js";
import { SlotTakers, type SlotState } from "./subscribers.js";

/** A labelled piece of state, on its way from a process that ends to its successor. */
export interface Slot<T> {
  /**
   * Hands state on. A function given before the drain is a view: it is asked when the successor is there, perhaps also
   * for a copy ({@link peek}) or again after a rollback, and should change nothing. A value, or what is given in the
   * drain, is given away: after a rollback it is offered to the subscribers of this process, else to the next successor.
   *
   * @returns what has become of it, when that cannot be undone any more
   * @throws {HandoverError} `ERR_ENCODING`, `ERR_TOO_LARGE`; and what the function throws
   */
  initiate(data: T | (() => T | PromiseLike<T>), options?: InitiateOptions): Promise<SlotOutcome>;
  /**
   * Takes state, one piece after the other, what already waits first. When `take` returns, the state is taken; when it
   * throws, another subscriber is asked. Returns what ends the subscription; what is being taken then is still settled.
   */
  subscribe(take: (state: SlotState<T>) => unknown): () => void;
  /** Takes all that waits. */
  complete(): Promise<SlotState<T>[]>;
  /**
   * Before `ready()`: a copy of what the predecessor would hand on now, for a warm start; undefined where there is none.
   *
   * @throws an error with the code of the refusal, if it cannot be used: `ERR_VERSION`, `ERR_CODEC`, …
   */
  peek(): Promise<T | undefined>;
}

export interface InitiateOptions {
  /** How long, in ms, it is offered before it is withdrawn. Default 5 000. */
  timeout?: number;
  /** How long, in ms from now, it is worth anything. Default: for good. */
  ttl?: number;
}

/** The slots of a process. */
export class Slots {
  readonly #fences: Fences;
  readonly #older: () => readonly Exchange[];
  readonly #queues = new Map<string, SlotQueue>();
  readonly #takers = new Map<string, SlotTakers>();
  #departure: Departure | undefined;
  /** From the beginning of the drain, in which connections leave first. */
  #isLeaving = false;
  /** End the offers of what a rollback gave back to this process. */
  readonly #givenBack = new Set<AbortController>();
  #numbers = 0;

  /** @param older what leads to the generations before, while they live: the parent first */
  constructor(fences: Fences, older: () => readonly Exchange[]) {
    this.#fences = fences;
    this.#older = older;
  }

  open<T>(label: string, shape: Shape<T>): Slot<T> {
    readName("the label of a slot", label);
    const envelope = readShape<T>(`slot "${label}"`, shape);
    const any = envelope as Envelope<unknown>;
    return {
      initiate: (data, options = {}) => heard(this.#initiate(label, any, data, options)),
      subscribe: (take) => {
        if (typeof take !== "function") throw wrongOption("take", "a function", take);
        return this.#takersOf(label).subscribe(any, take as (state: SlotState<unknown>) => unknown);
      },
      complete: async () => this.#complete(label, envelope),
      peek: async () => {
        const parcel = await this.#older()[0]?.peek(KIND, label);
        return parcel === undefined ? undefined : decode(envelope, parcel);
      },
    };
  }

  /** Takes what an older generation offers. */
  serve(exchange: Exchange): void {
    exchange.serve(KIND, undefined, (parcel, claim) => {
      if (this.#isLeaving) return { code: "ERR_STOPPED" };
      return this.#takersOf(parcel.label).take(parcel, claim);
    });
  }

  /** Shows a successor that is not ready yet what there is. */
  show(exchange: Exchange): void {
    exchange.show(KIND, {
      peek: async (label) => this.#queues.get(label)?.copy(),
      claim: (label) => this.#queues.get(label)?.isHandingOn ?? false,
    });
  }

  /** The process ends: a function that is given now is no view any more. */
  depart(): void {
    this.#isLeaving = true;
  }

  /** Hands on all there is, and all that comes, from now on. */
  drain(departure: Departure): void {
    this.#departure = departure;
    for (const controller of this.#givenBack) controller.abort();
    this.#givenBack.clear();
    for (const [label, takers] of this.#takers) {
      for (const parcel of takers.takeAway()) this.#queueOf(label).add(inherited(parcel, this.#numbers++));
    }
    for (const queue of this.#queues.values()) queue.begin(departure);
  }

  /** Resolves when nothing is left to hand on, or this process serves again. */
  async idle(departure: Departure): Promise<void> {
    while (!departure.isUndone && [...this.#queues.values()].some(({ isIdle }) => !isIdle)) {
      await Promise.all([...this.#queues.values()].map(async (queue) => queue.idle()));
    }
  }

  /** The successor is dead: what was given away is this process's again, as it was frozen. */
  rollBack(): void {
    this.#departure = undefined;
    this.#isLeaving = false;
    for (const [label, queue] of this.#queues) {
      queue.cancel(async (parcel) => {
        // One for each: a signal searches all its listeners for every one that is added.
        const controller = new AbortController();
        this.#givenBack.add(controller);
        const claim = { fence: this.#fences.next(), signal: controller.signal, note: () => {} };
        const verdict = await this.#takersOf(label).take(parcel, claim);
        this.#givenBack.delete(controller);
        return verdict === "taken";
      });
    }
  }

  async #initiate(
    label: string,
    envelope: Envelope<unknown>,
    data: unknown,
    options: InitiateOptions,
  ): Promise<SlotOutcome> {
    refuseUnknown("initiate()", options, ["timeout", "ttl"]);
    const { timeout = 5_000, ttl } = options;
    const number = this.#numbers++;
    const pack = (value: unknown): Parcel => {
      const id = String(number);
      return { kind: KIND, label, id, fds: [], ...encode(envelope, value, `slot "${label}"`) };
    };
    const isFunction = typeof data === "function";
    const initiated = new Initiated({
      label,
      number,
      parcel: isFunction ? undefined : pack(data),
      make: async () => pack(await (data as () => unknown)()),
      isView: isFunction && !this.#isLeaving,
      timeout: milliseconds("timeout", timeout, 0),
      ttl: ttl === undefined ? undefined : milliseconds("ttl", ttl, 0),
    });
    this.#queueOf(label).add(initiated);
    return initiated.outcome;
  }

  /** Owners offer one after the other: as long as one has more, it is waited for. */
  async #complete<T>(label: string, envelope: Envelope<T>): Promise<SlotState<T>[]> {
    const takers = this.#takersOf(label);
    const taken: SlotState<T>[] = [];
    for (;;) {
      taken.push(...takers.complete(envelope));
      // What is refused here, or being taken, is before all that its owner has.
      if (takers.size > 0) return taken;
      const more = await Promise.all(this.#older().map(async (one) => one.claim(KIND, label, "")));
      if (!more.includes(true) || (await takers.arrival(NEXT)) === LATE) return taken;
    }
  }

  #queueOf(label: string): SlotQueue {
    let queue = this.#queues.get(label);
    if (queue === undefined) {
      this.#queues.set(label, (queue = new SlotQueue()));
      if (this.#departure !== undefined) queue.begin(this.#departure);
    }
    return queue;
  }

  #takersOf(label: string): SlotTakers {
    const takers = this.#takers.get(label) ?? new SlotTakers();
    this.#takers.set(label, takers);
    return takers;
  }
}

/** How long, in ms, an owner may take to offer the next. */
const NEXT = 1_000;

/** What a dead predecessor had offered, and nobody has taken here. */
function inherited(parcel: Parcel, number: number): Initiated {
  return new Initiated({
    label: parcel.label,
    number,
    parcel,
    make: async () => parcel,
    isView: false,
    timeout: 5_000,
    ttl: undefined,
  });
}

/** Whoever does not wait for what becomes of it is warned, not killed by a rejection that nobody handles. */
function heard<T>(promise: Promise<T>): Promise<T> {
  promise.catch((error: unknown) => {
    process.emitWarning(`state is not handed on: ${reasonOf(error)}`, { code: "HANDOVER_NOT_HANDED_ON" });
  });
  return promise;
}
