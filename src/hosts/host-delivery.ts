import type { Delivery } from "../exchange/exchange.js";
import type { Parcel, Peer } from "../exchange/parcel.js";
import type { Claimed } from "./engine.js";

/** A parcel of another host while this process takes it. */
export class HostDelivery implements Delivery {
  readonly fence: number;
  readonly from: Peer;
  readonly age: number;
  readonly note: Delivery["note"];
  readonly #controller = new AbortController();
  readonly #parcel: Parcel;

  /** @param note a refusal here leaves the parcel to the others */
  constructor({ fence, from, age, parcel }: Claimed, note: Delivery["note"]) {
    this.fence = fence;
    this.from = from;
    this.age = age;
    this.note = note;
    this.#parcel = parcel;
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  abort(): void {
    this.#controller.abort();
  }

  isOf(kind: string, label: string): boolean {
    return this.#parcel.kind === kind && this.#parcel.label === label;
  }
}
