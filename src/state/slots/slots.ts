import { reasonOf } from "../../errors.js";
import type { DrainContext } from "../../exchange/drain-context.js";
import type { Exchange } from "../../exchange/exchange.js";
import type { FencingTokens } from "../../exchange/fencing.js";
import type { StateHosts } from "../../exchange/hosts.js";
import { makeRefusal, type Parcel, type Peer } from "../../exchange/parcel.js";
import { asyncAtCaller, atCaller } from "../../platform/at-caller.js";
import { TIMED_OUT } from "../../util/timeout.js";
import { milliseconds, refuseUnknown, wrongOption } from "../../util/validation.js";
import { resolveSchema, type ResolvedSchema, type StateSchema } from "../schema.js";
import { decode, encode } from "../encoding.js";
import { PendingSlot, SLOT_KIND, type SlotOutcome } from "./pending-slot.js";
import { SlotQueue } from "./slot-queue.js";
import { SlotSubscribers, type SlotState } from "./subscribers.js";

/** One labelled piece of state that moves as a whole. */
export interface Slot<T> {
  /**
   * Offers state to the successor. A function that is given before this process is `draining` is a view: it is called
   * when the successor is ready, perhaps also for a copy ({@link peek}) or again after a rollback, and should change
   * nothing. A value, and a function that is given while this process is `draining`, is given away: after a rollback the
   * subscribers of this process get it, else the next successor.
   *
   * @returns the final outcome, after probation
   * @throws {HandoverError} `ERR_OPTION`, `ERR_ENCODING`, `ERR_TOO_LARGE`; and the exception of the function
   */
  initiate(data: T | (() => T | PromiseLike<T>), options?: InitiateOptions): Promise<SlotOutcome>;
  /**
   * Takes state, one piece after the other, beginning with the state that already waits. When `take` returns, the state is
   * taken; when it throws, another subscriber is asked. Returns a function that ends the subscription; a `take` that runs
   * then still counts.
   *
   * @throws {HandoverError} `ERR_OPTION`
   */
  subscribe(take: (state: SlotState<T>) => unknown): () => void;
  /** Takes all state that waits. */
  complete(): Promise<SlotState<T>[]>;
  /**
   * Before `ready()`: a copy of the state that the predecessor would offer now, for a warm start; undefined if it has none.
   *
   * @throws {HandoverError} `ERR_VERSION`, `ERR_CODEC`, `ERR_MIGRATE` or `ERR_CHECK` for a copy that cannot be used here
   */
  peek(): Promise<T | undefined>;
}

/** The definition of a slot. */
export interface SlotDefinition<T> extends StateSchema<T> {
  /**
   * Who may take the state: `"host"`: the successor. `"global"`: also a process on another host, by the option `exchange` of
   * the `Upgrader`, if there is no successor. Default `"host"`.
   */
  scope?: "host" | "global";
}

export interface InitiateOptions {
  /** The time, in ms, after which the offer is withdrawn. Default 5 000. */
  timeout?: number;
  /**
   * The time, in ms from now, after which the state is worthless. With the scope `"global"` it waits that long for a process on
   * another host, also when this one has left. Default: never, and it does not wait.
   */
  ttl?: number;
}

/** The process that the slots are part of. */
export interface SlotHost {
  readonly self: Peer;
  readonly fences: FencingTokens;
  /** The other hosts; undefined if there are none. */
  readonly hosts: StateHosts | undefined;
  /** @throws {HandoverError} `ERR_OPTION` if the option `exchange` is missing */
  readonly requireHosts: (doing: string) => void;
  /** The exchanges to the predecessors that live, the direct one first. */
  readonly predecessors: () => readonly Exchange[];
  /** Whether the process was replaced or stopped, until a rollback. Its drain may begin later. */
  readonly isLeaving: boolean;
  /** The drain of the process, until a rollback. */
  readonly drainContext: DrainContext | undefined;
  /** The same while slots move: connections move before them. */
  readonly slotDrain: DrainContext | undefined;
}

/** The slots of a process. */
export class Slots {
  readonly #host: SlotHost;
  readonly #queues = new Map<string, SlotQueue>();
  readonly #subscribers = new Map<string, SlotSubscribers>();
  /** Withdraw the state that a rollback gave back to the subscribers of this process. */
  readonly #givenBack = new Set<AbortController>();
  /** The labels that are taken from other hosts. */
  readonly #far = new Map<string, { users: number; end: () => void }>();
  #nextNumber = 0;

  constructor(host: SlotHost) {
    this.#host = host;
  }

  /** @throws {HandoverError} `ERR_OPTION` */
  open<T>(label: string, definition: SlotDefinition<T>): Slot<T> {
    const resolved = resolveSchema<T>(`slot "${label}"`, definition, ["scope"]);
    const untyped = resolved as ResolvedSchema<unknown>;
    const isGlobal = readScope(definition.scope) === "global";
    if (isGlobal) this.#host.requireHosts(`open the slot "${label}"`);
    const slot: Slot<T> = {
      initiate: (data, options = {}) =>
        warnIfRejected(
          asyncAtCaller(slot, "initiate", () => this.#initiate(label, untyped, isGlobal, data, options)),
        ),
      subscribe: (take) =>
        atCaller(slot, "subscribe", () => {
          if (typeof take !== "function") throw wrongOption("take", "a function", take);
          const end = this.#subscribersOf(label).subscribe(
            untyped,
            take as (state: SlotState<unknown>) => unknown,
          );
          const endFar = isGlobal ? this.#takeFromHosts(label) : undefined;
          return () => {
            end();
            endFar?.();
          };
        }),
      complete: async () => this.#complete(label, resolved, isGlobal),
      peek: () =>
        asyncAtCaller(slot, "peek", async () => {
          const parcel = await this.#host.predecessors()[0]?.peek(SLOT_KIND, label);
          return parcel === undefined ? undefined : decode(resolved, parcel);
        }),
    };
    return slot;
  }

  /** Takes the slots that a predecessor offers. */
  subscribeTo(exchange: Exchange): void {
    exchange.subscribe(SLOT_KIND, undefined, (parcel, delivery) => {
      if (this.#host.drainContext !== undefined) return makeRefusal("ERR_STOPPED");
      return this.#subscribersOf(parcel.label).take(parcel, delivery);
    });
  }

  /** Answers what a successor asks about the slots of this process. */
  answerQueriesOf(exchange: Exchange): void {
    exchange.onQuery(SLOT_KIND, {
      peek: async (label) => this.#queues.get(label)?.copy(),
      expedite: (label) => this.#queues.get(label)?.isOffering ?? false,
    });
  }

  /** Offers all pending slots, and the state of dead predecessors that no subscriber has taken here. */
  drain(): void {
    for (const controller of this.#givenBack) controller.abort();
    this.#givenBack.clear();
    for (const [label, subscribers] of this.#subscribers) {
      for (const parcel of subscribers.removeUntaken())
        this.#queueOf(label).add(inherited(parcel, this.#nextNumber++));
    }
    for (const queue of this.#queues.values()) queue.run();
  }

  /** Whether no slot is left here but those that the successor has taken, which a rollback brings back. */
  get isDrained(): boolean {
    return [...this.#queues.values()].every((queue) => queue.isDrained);
  }

  /** Resolves when every slot is settled, or after a rollback. */
  async whenEmpty(context: DrainContext): Promise<void> {
    const queues = (): SlotQueue[] => [...this.#queues.values()];
    while (!context.isRolledBack && queues().some(({ isEmpty }) => !isEmpty)) {
      await Promise.all(queues().map(async (queue) => queue.whenEmpty()));
    }
  }

  /** The successor is dead: the state that was given away is this process's again, as it was encoded. */
  rollBack(): void {
    for (const [label, queue] of this.#queues) {
      queue.rollBack(async (parcel) => {
        // A controller for each: one signal would search all its listeners whenever another is added.
        const controller = new AbortController();
        this.#givenBack.add(controller);
        const { fences, self } = this.#host;
        const delivery = { fence: fences.next(), from: self, signal: controller.signal, note: () => {} };
        const result = await this.#subscribersOf(label).take(parcel, delivery);
        this.#givenBack.delete(controller);
        return result === "taken";
      });
    }
  }

  #initiate(
    label: string,
    schema: ResolvedSchema<unknown>,
    isGlobal: boolean,
    data: unknown,
    options: InitiateOptions,
  ): Promise<SlotOutcome> {
    refuseUnknown("initiate()", options, ["timeout", "ttl"]);
    const { timeout = DEFAULT_TIMEOUT, ttl } = options;
    const number = this.#nextNumber++;
    const makeParcel = (value: unknown): Parcel => {
      const id = String(number);
      return { kind: SLOT_KIND, label, id, fds: [], ...encode(schema, value, `slot "${label}"`) };
    };
    const isFunction = typeof data === "function";
    const pending = new PendingSlot({
      label,
      number,
      parcel: isFunction ? undefined : makeParcel(data),
      make: async () => makeParcel(await (data as () => unknown)()),
      isView: isFunction && !this.#host.isLeaving,
      timeout: milliseconds("timeout", timeout, 0),
      ttl: ttl === undefined ? undefined : milliseconds("ttl", ttl, 0),
      isGlobal,
    });
    this.#queueOf(label).add(pending);
    return pending.outcome;
  }

  /** A predecessor offers one slot after the other: as long as it has another one, this waits for it. */
  async #complete<T>(label: string, schema: ResolvedSchema<T>, isGlobal: boolean): Promise<SlotState<T>[]> {
    const subscribers = this.#subscribersOf(label);
    const taken: SlotState<T>[] = [];
    const endFar = isGlobal ? this.#takeFromHosts(label) : undefined;
    try {
      for (;;) {
        taken.push(...subscribers.complete(schema));
        // The predecessor offers no other slot before the one that is left here is settled.
        if (subscribers.size > 0) return taken;
        const { hosts, predecessors } = this.#host;
        const owners = isGlobal && hosts !== undefined ? [...predecessors(), hosts.exchange] : predecessors();
        const more = await Promise.all(owners.map(async (one) => one.expedite(SLOT_KIND, label, "")));
        if (!more.includes(true) || (await subscribers.nextArrival(NEXT_OFFER_TIMEOUT)) === TIMED_OUT)
          return taken;
      }
    } finally {
      endFar?.();
    }
  }

  /** Takes what other hosts offer under a label, as long as there is someone here to take it. Returns a function that ends this. */
  #takeFromHosts(label: string): (() => void) | undefined {
    const { hosts } = this.#host;
    if (hosts === undefined) return undefined;
    const far = this.#far.get(label) ?? { users: 0, end: () => {} };
    this.#far.set(label, far);
    if (far.users++ === 0) {
      far.end = hosts.exchange.subscribe(SLOT_KIND, label, (parcel, delivery) => {
        if (this.#host.isLeaving) return makeRefusal("ERR_STOPPED");
        return this.#subscribersOf(label).take(parcel, delivery);
      });
    }
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      if (--far.users === 0) far.end();
    };
  }

  #queueOf(label: string): SlotQueue {
    const queue = this.#queues.get(label) ?? new SlotQueue(this.#host);
    this.#queues.set(label, queue);
    return queue;
  }

  #subscribersOf(label: string): SlotSubscribers {
    const subscribers = this.#subscribers.get(label) ?? new SlotSubscribers();
    this.#subscribers.set(label, subscribers);
    return subscribers;
  }
}

function readScope(value: unknown = "host"): "host" | "global" {
  if (value === "host" || value === "global") return value;
  throw wrongOption("scope", '"host" or "global"', value);
}

/** The time, in ms, for which a slot is offered. */
const DEFAULT_TIMEOUT = 5_000;

/** The time, in ms, in which a predecessor must offer its next slot. */
const NEXT_OFFER_TIMEOUT = 1_000;

/** A slot that a dead predecessor had offered and that no subscriber has taken here. */
function inherited(parcel: Parcel, number: number): PendingSlot {
  return new PendingSlot({
    label: parcel.label,
    number,
    parcel,
    make: async () => parcel,
    isView: false,
    timeout: DEFAULT_TIMEOUT,
    ttl: undefined,
    isGlobal: false,
  });
}

/** A program that does not wait for the outcome must not be ended by an unhandled rejection. */
function warnIfRejected<T>(promise: Promise<T>): Promise<T> {
  promise.catch((error: unknown) => {
    process.emitWarning(`state does not move: ${reasonOf(error)}`, { code: "HANDOVER_NOT_MOVED" });
  });
  return promise;
}
