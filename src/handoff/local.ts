import { createHash, randomUUID } from "node:crypto";
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
  /** Of a {@link restart} that the other side has not confirmed yet. */
  #restart: string | undefined;
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
      const fds = parcels.flatMap((parcel) => [...parcel.fds]);
      try {
        if (!this.#send(message, fds, body)) this.end();
      } catch {
        // It had to wait, for which there are no descriptors.
        this.#settle(batch, undefined);
      }
    });
  }

  serve(kind: string, take: Taker): void {
    this.#takers.set(kind, take);
  }

  /** What came over the channel; false for what is no business of an exchange. */
  hear(message: Message, fds: number[], body: Uint8Array): boolean {
    if (message.type === "offer") this.#answer(message, fds, body);
    else if (message.type === "settle") this.#settle(message.batch, message.results);
    else if (message.type === "restart") this.#startOver(message.id);
    else if (message.type === "restarted")
      this.#restart = this.#restart === message.id ? undefined : this.#restart;
    else return false;
    return true;
  }

  /**
   * Reads on where somebody else has read, who may have died over it: what that one has not settled is its
   * owner's again, and what was offered before the owner knows of it is void.
   */
  restart(): void {
    this.#restart = randomUUID();
    this.#send({ type: "restart", id: this.#restart }, []);
  }

  /** The other side is gone, or nobody is to be asked any more: all that is not settled is its owner's again. */
  end(): void {
    this.#isOpen = false;
    this.#withdrawAll();
    for (const wake of this.#waiting.splice(0)) wake();
  }

  #withdrawAll(): void {
    for (const batch of this.#unsettled.keys()) this.#settle(batch, undefined);
  }

  /** Whoever waits for the window offers in a later turn of the microtasks: after the confirmation. */
  #startOver(id: string): void {
    this.#withdrawAll();
    this.#send({ type: "restarted", id }, []);
  }

  #settle(batch: number, results: readonly (string | null)[] | undefined): void {
    const offered = this.#unsettled.get(batch);
    if (offered === undefined) return;
    this.#unsettled.delete(batch);
    offered.settle(Array.from({ length: offered.parcels }, (_, n) => settlementOf(results?.[n])));
    this.#waiting.shift()?.();
  }

  #answer(offer: Offer, fds: number[], body: Uint8Array): void {
    if (this.#restart !== undefined) return closeAll(fds);
    const parcels = unpack(offer, fds, body);
    if (typeof parcels === "string") closeAll(fds);
    const results = offer.parcels.map((_, n) =>
      typeof parcels === "string" ? parcels : this.#take(parcels[n]!),
    );
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

/** The code of the refusal, if what has arrived is not what was sent. */
function unpack({ parcels, sha256 }: Offer, fds: number[], body: Uint8Array): Parcel[] | string {
  if (hash(body) !== sha256) return "ERR_DAMAGED";
  let [byte, fd] = [0, 0];
  const unpacked = parcels.map(({ size, fds: count, ...head }) => ({
    ...head,
    body: body.subarray(byte, (byte += size)),
    fds: fds.slice(fd, (fd += count)),
  }));
  if (fd > fds.length) return "ERR_DESCRIPTOR";
  return byte === body.length && fd === fds.length ? unpacked : "ERR_DAMAGED";
}

function settlementOf(result: string | null | undefined): Settlement {
  if (result === undefined) return { how: "withdrawn" };
  return result === null ? { how: "taken" } : { how: "refused", code: result };
}

function hash(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("base64");
}
