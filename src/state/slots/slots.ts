import { reasonOf } from "../../errors.js";
import { TIMED_OUT } from "../../util/timeout.js";
import { milliseconds, refuseUnknown, wrongOption } from "../../util/validation.js";
import type { DrainContext } from "../../exchange/drain-context.js";
import { decode, encode, resolveSchema, type ResolvedSchema, type StateSchema } from "../schema.js";
import type { Exchange } from "../../exchange/exchange.js";
import type { FencingTokens } from "../../exchange/fencing.js";
import { PendingSlot, SLOT_KIND, type SlotOutcome } from "./pending-slot.js";
import { makeRefusal, type Parcel } from "../../exchange/parcel.js";
import { SlotQueue } from "./slot-queue.js";
import { SlotSubscribers, type SlotState } from "./subscribers.js";

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
   * @throws {HandoverError} `ERR_VERSION`, `ERR_CODEC`, `ERR_MIGRATE` or `ERR_CHECK` for a copy that cannot be used here
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
  readonly #fences: FencingTokens;
  readonly #predecessors: () => readonly Exchange[];
  readonly #queues = new Map<string, SlotQueue>();
  readonly #subscribers = new Map<string, SlotSubscribers>();
  #context: DrainContext | undefined;
  /** From the beginning of the drain, in which connections leave first. */
  #isLeaving = false;
  /** End the offers of what a rollback gave back to this process. */
  readonly #givenBack = new Set<AbortController>();
  #numbers = 0;

  /** @param older what leads to the generations before, while they live: the parent first */
  constructor(fences: FencingTokens, older: () => readonly Exchange[]) {
    this.#fences = fences;
    this.#predecessors = older;
  }

  open<T>(label: string, shape: StateSchema<T>): Slot<T> {
    const schema = resolveSchema<T>(`slot "${label}"`, shape);
    const any = schema as ResolvedSchema<unknown>;
    return {
      initiate: (data, options = {}) => warnIfRejected(this.#initiate(label, any, data, options)),
      subscribe: (take) => {
        if (typeof take !== "function") throw wrongOption("take", "a function", take);
        return this.#subscribersOf(label).subscribe(any, take as (state: SlotState<unknown>) => unknown);
      },
      complete: async () => this.#complete(label, schema),
      peek: async () => {
        const parcel = await this.#predecessors()[0]?.peek(SLOT_KIND, label);
        return parcel === undefined ? undefined : decode(schema, parcel);
      },
    };
  }

  /** Takes what an older generation offers. */
  subscribeTo(exchange: Exchange): void {
    exchange.subscribe(SLOT_KIND, undefined, (parcel, delivery) => {
      if (this.#isLeaving) return makeRefusal("ERR_STOPPED");
      return this.#subscribersOf(parcel.label).take(parcel, delivery);
    });
  }

  /** Shows a successor that is not ready yet what there is. */
  answerQueriesOf(exchange: Exchange): void {
    exchange.onQuery(SLOT_KIND, {
      peek: async (label) => this.#queues.get(label)?.copy(),
      expedite: (label) => this.#queues.get(label)?.isOffering ?? false,
    });
  }

  /** The process ends: a function that is given now is no view any more. */
  beginDrain(): void {
    this.#isLeaving = true;
  }

  /** Hands on all there is, and all that comes, from now on. */
  drain(context: DrainContext): void {
    this.#context = context;
    for (const controller of this.#givenBack) controller.abort();
    this.#givenBack.clear();
    for (const [label, subscribers] of this.#subscribers) {
      for (const parcel of subscribers.removeUntaken())
        this.#queueOf(label).add(inherited(parcel, this.#numbers++));
    }
    for (const queue of this.#queues.values()) queue.begin(context);
  }

  /** Resolves when nothing is left to hand on, or this process serves again. */
  async whenEmpty(context: DrainContext): Promise<void> {
    while (!context.isRolledBack && [...this.#queues.values()].some(({ isEmpty: isIdle }) => !isIdle)) {
      await Promise.all([...this.#queues.values()].map(async (queue) => queue.whenEmpty()));
    }
  }

  /** The successor is dead: what was given away is this process's again, as it was frozen. */
  rollBack(): void {
    this.#context = undefined;
    this.#isLeaving = false;
    for (const [label, queue] of this.#queues) {
      queue.cancel(async (parcel) => {
        // One for each: a signal searches all its listeners for every one that is added.
        const controller = new AbortController();
        this.#givenBack.add(controller);
        const delivery = { fence: this.#fences.next(), signal: controller.signal, note: () => {} };
        const result = await this.#subscribersOf(label).take(parcel, delivery);
        this.#givenBack.delete(controller);
        return result === "taken";
      });
    }
  }

  async #initiate(
    label: string,
    schema: ResolvedSchema<unknown>,
    data: unknown,
    options: InitiateOptions,
  ): Promise<SlotOutcome> {
    refuseUnknown("initiate()", options, ["timeout", "ttl"]);
    const { timeout = 5_000, ttl } = options;
    const number = this.#numbers++;
    const pack = (value: unknown): Parcel => {
      const id = String(number);
      return { kind: SLOT_KIND, label, id, fds: [], ...encode(schema, value, `slot "${label}"`) };
    };
    const isFunction = typeof data === "function";
    const pending = new PendingSlot({
      label,
      number,
      parcel: isFunction ? undefined : pack(data),
      make: async () => pack(await (data as () => unknown)()),
      isView: isFunction && !this.#isLeaving,
      timeout: milliseconds("timeout", timeout, 0),
      ttl: ttl === undefined ? undefined : milliseconds("ttl", ttl, 0),
    });
    this.#queueOf(label).add(pending);
    return pending.outcome;
  }

  /** Owners offer one after the other: as long as one has more, it is waited for. */
  async #complete<T>(label: string, schema: ResolvedSchema<T>): Promise<SlotState<T>[]> {
    const subscribers = this.#subscribersOf(label);
    const taken: SlotState<T>[] = [];
    for (;;) {
      taken.push(...subscribers.complete(schema));
      // What is refused here, or being taken, is before all that its owner has.
      if (subscribers.size > 0) return taken;
      const more = await Promise.all(
        this.#predecessors().map(async (one) => one.expedite(SLOT_KIND, label, "")),
      );
      if (!more.includes(true) || (await subscribers.nextArrival(NEXT_OFFER_TIMEOUT)) === TIMED_OUT)
        return taken;
    }
  }

  #queueOf(label: string): SlotQueue {
    let queue = this.#queues.get(label);
    if (queue === undefined) {
      this.#queues.set(label, (queue = new SlotQueue()));
      if (this.#context !== undefined) queue.begin(this.#context);
    }
    return queue;
  }

  #subscribersOf(label: string): SlotSubscribers {
    const subscribers = this.#subscribers.get(label) ?? new SlotSubscribers();
    this.#subscribers.set(label, subscribers);
    return subscribers;
  }
}

/** How long, in ms, an owner may take to offer the next. */
const NEXT_OFFER_TIMEOUT = 1_000;

/** What a dead predecessor had offered, and nobody has taken here. */
function inherited(parcel: Parcel, number: number): PendingSlot {
  return new PendingSlot({
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
function warnIfRejected<T>(promise: Promise<T>): Promise<T> {
  promise.catch((error: unknown) => {
    process.emitWarning(`state is not handed on: ${reasonOf(error)}`, { code: "HANDOVER_NOT_HANDED_ON" });
  });
  return promise;
}
