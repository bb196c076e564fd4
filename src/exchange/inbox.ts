import { closeMemory, digest, readMemory } from "./memory-file.js";
import { closeAll } from "../platform/descriptors.js";
import { filledSize, type ParcelHead, type SettlementResult } from "../channel/messages.js";
import { reasonOf } from "../errors.js";
import { batches } from "../util/batches.js";
import type { Delivery, DeliveryHandler, TakeResult } from "./exchange.js";
import {
  makeRefusal,
  MAX_CODE,
  MAX_REASON,
  pauseAt,
  refusalOf,
  shortened,
  type Parcel,
  type Peer,
  type Refusal,
} from "./parcel.js";

interface InboxListener {
  /** Bytes of the largest message. */
  readonly maxSize: number;
  /** The handler that takes such a parcel. */
  handler(kind: string, label: string): DeliveryHandler | undefined;
  nextFence(): number;
  /** The process at the other end. */
  peer(): Peer;
  settled(results: SettlementResult[]): void;
}

/** The parcels that a process was offered over a channel and has not settled yet. */
export class Inbox {
  readonly #listener: InboxListener;
  readonly #deliveries = new Map<number, OpenDelivery>();
  #results: SettlementResult[] = [];
  #hasEnded = false;
  /** Results are sent together, at the end of an offer or in a microtask. */
  #isCollecting = false;

  constructor(listener: InboxListener) {
    this.#listener = listener;
  }

  /** Takes an offer with its descriptors. Parcels that are settled at once are settled in one message. */
  receiveOffer(heads: readonly ParcelHead[], fds: readonly number[], body: Uint8Array): void {
    const lacking = heads.reduce((sum, head) => sum + descriptorsOf(head), 0) - fds.length;
    if (lacking !== 0) closeAll(fds);
    let [byte, fd] = [0, 0];
    this.#isCollecting = true;
    for (const head of heads) {
      const own = fds.slice(fd, (fd += descriptorsOf(head)));
      const bytes = head.memory ? undefined : body.subarray(byte, (byte += head.size));
      if (lacking !== 0)
        this.#settle(head.number, makeRefusal(lacking > 0 ? "ERR_DESCRIPTOR" : "ERR_DAMAGED"));
      else if (bytes === undefined) void this.#receiveLarge(head, own);
      else this.#receive(head, bytes, digest(bytes), own);
    }
    this.#flush();
  }

  withdraw(numbers: readonly number[]): void {
    for (const number of numbers) {
      const delivery = this.#deliveries.get(number);
      if (delivery === undefined) continue;
      this.#deliveries.delete(number);
      delivery.abort();
      this.#report({ number, how: "withdrawn", refusals: delivery.refusals, ...delivery.returned });
    }
  }

  /** Another process takes the parcels from now on; results of this one are sent before. */
  abandon(): void {
    this.#flush();
    for (const delivery of this.#deliveries.values()) delivery.abort();
    this.#deliveries.clear();
  }

  /** The owner is gone. What would be taken later is lost with it. */
  end(): void {
    this.#hasEnded = true;
    for (const [number, delivery] of this.#deliveries) {
      if (!delivery.isPostponed) continue;
      this.#deliveries.delete(number);
      delivery.abort();
    }
  }

  async #receiveLarge(head: ParcelHead, [memory, ...fds]: number[]): Promise<void> {
    const delivery = this.#open(head);
    try {
      const read = await readMemory(memory!, head.size);
      if (this.#deliveries.get(head.number) === delivery) this.#receive(head, read?.bytes, read?.sha256, fds);
      else closeAll(fds);
    } catch (error) {
      closeAll(fds);
      this.#settle(head.number, makeRefusal("ERR_MEMORY", reasonOf(error)));
    } finally {
      closeMemory(memory!, head.size);
    }
  }

  #receive(head: ParcelHead, body: Uint8Array | undefined, sha256: string | undefined, fds: number[]): void {
    const { number, kind, label, id, version, codec } = head;
    const take = this.#listener.handler(kind, label);
    const refused = body?.length !== head.size || sha256 !== head.sha256 ? "ERR_DAMAGED" : "ERR_NO_TAKER";
    if (refused === "ERR_DAMAGED" || take === undefined) {
      closeAll(fds);
      return this.#settle(number, makeRefusal(refused));
    }
    return this.#give({ kind, label, id, version, codec, body: body!, fds }, take, this.#open(head));
  }

  #open({ number }: ParcelHead): OpenDelivery {
    const delivery = this.#deliveries.get(number) ?? new OpenDelivery(number, this.#listener);
    this.#deliveries.set(number, delivery);
    return delivery;
  }

  #give(parcel: Parcel, take: DeliveryHandler, delivery: OpenDelivery): void {
    const settle = (given: TakeResult): void => {
      const isOpen = this.#deliveries.get(delivery.number) === delivery;
      if (given === "later" && isOpen && !this.#hasEnded) return this.#postpone(parcel, take, delivery);
      const result = given === "later" ? makeRefusal("ERR_REFUSED") : given;
      if (result !== "taken") closeAll(parcel.fds);
      if (this.#deliveries.get(delivery.number) === delivery) this.#settle(delivery.number, result);
      else if (result === "taken") closeAll(parcel.fds);
    };
    try {
      const result = take(parcel, delivery);
      if (!(result instanceof Promise)) settle(result);
      else void result.then(settle, (error: unknown) => settle(refusalOf(error)));
    } catch (error) {
      settle(refusalOf(error));
    }
  }

  #postpone(parcel: Parcel, take: DeliveryHandler, delivery: OpenDelivery): void {
    if (delivery.refusals.length === 0) delivery.note(makeRefusal("ERR_REFUSED"));
    delivery.isPostponed = true;
    const again = (): void => {
      delivery.isPostponed = false;
      if (this.#deliveries.get(delivery.number) === delivery) this.#give(parcel, take, delivery);
      else closeAll(parcel.fds);
    };
    setTimeout(again, pauseAt(delivery.age)).unref();
  }

  #settle(number: number, result: "taken" | Refusal): void {
    const delivery = this.#deliveries.get(number);
    this.#deliveries.delete(number);
    if (result === "taken") this.#report({ number, how: "taken" });
    else this.#report({ number, how: "refused", refusals: [shortened(result)], ...delivery?.returned });
  }

  #report(result: SettlementResult): void {
    this.#results.push(result);
    if (this.#isCollecting) return;
    this.#isCollecting = true;
    queueMicrotask(() => this.#flush());
  }

  #flush(): void {
    this.#isCollecting = false;
    const results = this.#results;
    this.#results = [];
    const limit = filledSize(this.#listener.maxSize);
    const fitting = results.map((result) => withinLimit(result, limit));
    for (const some of batches(fitting, [limit], (result) => [sizeOf(result)])) this.#listener.settled(some);
  }
}

/** Bytes of a result, at most. */
function sizeOf({ refusals = [] }: SettlementResult): number {
  return RESULT + refusals.length * REFUSAL;
}

/** The result with as many of its refusals as a message takes. */
function withinLimit(result: SettlementResult, limit: number): SettlementResult {
  if (sizeOf(result) <= limit) return result;
  return { ...result, refusals: result.refusals!.slice(0, Math.floor((limit - RESULT) / REFUSAL)) };
}

/** Bytes of a result without its refusals, and of one refusal at most: JSON may need six for a character. */
const RESULT = 96;
const REFUSAL = 6 * (MAX_CODE + MAX_REASON) + 32;

class OpenDelivery implements Delivery {
  readonly number: number;
  readonly refusals: Refusal[] = [];
  /** Whether its handler is to be asked again. */
  isPostponed = false;
  readonly #listener: Pick<InboxListener, "nextFence" | "peer">;
  readonly #arrived = performance.now();
  #fence: number | undefined;
  #controller: AbortController | undefined;
  #isAborted = false;

  constructor(number: number, listener: Pick<InboxListener, "nextFence" | "peer">) {
    this.number = number;
    this.#listener = listener;
  }

  get fence(): number {
    return (this.#fence ??= this.#listener.nextFence());
  }

  /** If it was given a fence here, its owner gets the next one. */
  get returned(): { fence?: number } {
    return this.#fence === undefined ? {} : { fence: this.#listener.nextFence() };
  }

  get from(): Peer {
    return this.#listener.peer();
  }

  get age(): number {
    return performance.now() - this.#arrived;
  }

  /** Made when it is asked for: thousands of connections do not. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#isAborted) this.#controller.abort();
    return this.#controller.signal;
  }

  note(refusal: Refusal): void {
    if (this.refusals.length < NOTES) this.refusals.push(shortened(refusal));
  }

  abort(): void {
    this.#isAborted = true;
    this.#controller?.abort();
  }
}

function descriptorsOf({ fds, memory }: ParcelHead): number {
  return fds + (memory === true ? 1 : 0);
}

/** Refusals that are kept of one parcel. */
const NOTES = 16;
