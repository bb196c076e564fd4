import { createHash } from "node:crypto";
import { closeAll } from "../channel/channel.js";
import type { Message, ParcelHead } from "../channel/messages.js";
import type { Exchange, Parcel, Settlement, Taker } from "./exchange.js";

type Send = (message: Message, fds: readonly number[], body?: Uint8Array) => boolean;
type Offer = Message & { type: "offer" };

/** The exchange between two generations on this host: over their channel, descriptors included. */
export class LocalExchange implements Exchange {
  readonly #send: Send;
  readonly #takers = new Map<string, Taker>();
  readonly #unsettled = new Map<
    number,
    { parcels: number; settle: (settlements: readonly Settlement[]) => void }
  >();
  readonly #waiting: (() => void)[] = [];
  #batches = 0;
  #isOpen = true;

  constructor(send: Send) {
    this.#send = send;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  async offer(make: () => readonly Parcel[]): Promise<readonly Settlement[]> {
    // The window bounds what is nowhere: sent, and not yet taken. A small one keeps the gap of each short.
    while (this.#isOpen && this.#unsettled.size >= WINDOW) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    if (!this.#isOpen) return [];
    const parcels = make();
    if (parcels.length === 0) {
      this.#waiting.shift()?.();
      return [];
    }
    const batch = this.#batches++;
    const body = Buffer.concat(parcels.map((parcel) => parcel.body));
    const message = { type: "offer" as const, batch, parcels: parcels.map(headOf), sha256: hash(body) };
    return new Promise((settle) => {
      this.#unsettled.set(batch, { parcels: parcels.length, settle });
      if (
        !this.#send(
          message,
          parcels.flatMap((parcel) => [...parcel.fds]),
          body,
        )
      )
        this.end();
    });
  }

  serve(kind: string, take: Taker): void {
    this.#takers.set(kind, take);
  }

  /** What came over the channel; false for what is no business of an exchange. */
  hear(message: Message, fds: number[], body: Uint8Array): boolean {
    if (message.type === "offer") this.#answer(message, fds, body);
    else if (message.type === "settle") this.#settle(message.batch, message.results);
    else return false;
    return true;
  }

  /** The other side is gone, or nobody is to be asked any more: all that is not settled is its owner's again. */
  end(): void {
    this.#isOpen = false;
    for (const batch of this.#unsettled.keys()) this.#settle(batch, undefined);
    for (const wake of this.#waiting.splice(0)) wake();
  }

  #settle(batch: number, results: readonly (string | null)[] | undefined): void {
    const offered = this.#unsettled.get(batch);
    if (offered === undefined) return;
    this.#unsettled.delete(batch);
    offered.settle(Array.from({ length: offered.parcels }, (_, n) => settlementOf(results?.[n])));
    this.#waiting.shift()?.();
  }

  #answer(offer: Offer, fds: number[], body: Uint8Array): void {
    const parcels = unpack(offer, fds, body);
    const results = parcels?.map((parcel) => this.#take(parcel)) ?? offer.parcels.map(() => "ERR_DAMAGED");
    if (parcels === undefined) closeAll(fds);
    this.#send({ type: "settle", batch: offer.batch, results }, []);
  }

  #take(parcel: Parcel): string | null {
    try {
      const result = this.#takers.get(parcel.kind)?.(parcel) ?? { refused: "ERR_NO_TAKER" };
      if (result === "taken") return null;
      closeAll(parcel.fds);
      return result.refused;
    } catch (error) {
      closeAll(parcel.fds);
      return (error as { code?: string }).code ?? "ERR_TAKER";
    }
  }
}

/** Batches that may be unsettled. With one more than one the next is on its way while one is being answered. */
const WINDOW = 2;

function headOf({ kind, label, id, version, body, fds }: Parcel): ParcelHead {
  return { kind, label, id, version, size: body.length, fds: fds.length };
}

/** Undefined if what has arrived is not what was sent. */
function unpack({ parcels, sha256 }: Offer, fds: number[], body: Uint8Array): Parcel[] | undefined {
  if (hash(body) !== sha256) return undefined;
  let [byte, fd] = [0, 0];
  const unpacked = parcels.map(({ size, fds: count, ...head }) => ({
    ...head,
    body: body.subarray(byte, (byte += size)),
    fds: fds.slice(fd, (fd += count)),
  }));
  return byte === body.length && fd === fds.length ? unpacked : undefined;
}

function settlementOf(result: string | null | undefined): Settlement {
  if (result === undefined) return { how: "withdrawn" };
  return result === null ? { how: "taken" } : { how: "refused", code: result };
}

function hash(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("base64");
}
