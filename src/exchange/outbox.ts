import { closeMemory, digest, MAX_INLINE, writeMemory } from "./memory-file.js";
import type { Channel } from "../channel/channel.js";
import { filledSize, type ParcelHead, type SettlementResult } from "../channel/messages.js";
import { deferred, type Deferred } from "../util/deferred.js";
import { codeOf, reasonOf } from "../errors.js";
import { batches } from "../util/batches.js";
import type { Offered } from "./exchange.js";
import { makeRefusal, type Parcel, type Peer, type Settlement } from "./parcel.js";

/** What an exchange needs of a channel. */
export type Link = Pick<Channel, "send" | "maxSize">;

/** The parcels that a process has offered over a channel. */
export class Outbox {
  readonly #link: Link;
  readonly #peer: () => Peer;
  readonly #unsettled = new Map<number, OpenOffer>();
  /** Whether taken parcels stay with the other end; pending while a rollback may return them. */
  #confirmed: Deferred<boolean> = deferred();
  /** Parcels whose bodies are being written, or whose message could not be sent: the other end does not know of them. */
  readonly #unsent = new Set<number>();
  #numbers = 0;
  #isOpen = true;

  /** @param peer the process that reads at the other end */
  constructor(link: Link, peer: () => Peer) {
    this.#link = link;
    this.#peer = peer;
  }

  /** False once it is known that the other end has closed. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Offers parcels, in as few messages as they fit in. Their descriptors stay the caller's. Never throws. */
  offer(parcels: readonly Parcel[]): readonly Offered[] {
    const packing: Packed[] = [];
    const offered = parcels.map((parcel) => {
      const number = this.#numbers++;
      const offer = new OpenOffer(number, this.#withdraw);
      this.#unsettled.set(number, offer);
      if (!this.#isOpen) this.#settle(number, withdrawn(false));
      else if (!isInline(parcel, this.#link.maxSize)) void this.#sendLarge(number, parcel);
      else packing.push(pack(number, parcel));
      return offer;
    });
    const limits = [filledSize(this.#link.maxSize), DESCRIPTORS];
    for (const some of batches(packing, limits, ({ parcel }) => [sizeOf(parcel), parcel.fds.length]))
      this.#sendPacket(toPacket(some));
    return offered;
  }

  /** The other end has settled offers. */
  receiveResults(results: readonly SettlementResult[]): void {
    const taken = { how: "taken", by: this.#peer(), confirmed: this.#confirmed.promise } as const;
    for (const { number, how, refusals = [], ...rest } of results) {
      const fence = rest.fence === undefined ? {} : { fence: rest.fence };
      if (how === "taken") this.#settle(number, taken);
      else if (how === "withdrawn") this.#settle(number, { how, refusals, died: false, ...fence });
      else this.#settle(number, { how, ...(refusals[0] ?? makeRefusal("ERR_REFUSED")), ...fence });
    }
  }

  /** Another process reads now. If the one before is `lost`, so are the parcels that it took and had not confirmed. */
  changeReader(lost: boolean): void {
    this.#settleAll(lost);
    if (lost) this.#confirmed.resolve(false);
    this.#confirmed = deferred();
  }

  /** A rollback is impossible: parcels that were taken, or will be, stay with the other end. */
  confirm(): void {
    this.#confirmed.resolve(true);
  }

  /** The other end has closed: every parcel that is not confirmed is this process's again. */
  end(): void {
    this.#isOpen = false;
    this.#settleAll(true);
    this.#confirmed.resolve(false);
  }

  /** The other end receives nothing from now on, and may live. The parcels with these numbers were not sent. */
  fail(unsent: readonly number[]): void {
    this.#isOpen = false;
    for (const number of unsent) this.#settle(number, withdrawn(false));
  }

  /** The other end lives. It will not settle the parcels that were sent, and may hold them. */
  lose(): void {
    this.#isOpen = false;
    for (const number of this.#unsettled.keys())
      this.#settle(number, this.#unsent.has(number) ? withdrawn(false) : { how: "lost" });
  }

  async #sendLarge(number: number, parcel: Parcel): Promise<void> {
    this.#unsent.add(number);
    try {
      const { fd, sha256 } = await writeMemory(parcel.body);
      this.#unsent.delete(number);
      if (this.#unsettled.has(number)) {
        const head = { ...headOf(number, parcel, sha256), memory: true };
        this.#sendPacket({ heads: [head], fds: [fd, ...parcel.fds], bodies: [] });
      }
      closeMemory(fd, parcel.body.length);
    } catch (error) {
      this.#unsent.delete(number);
      this.#settle(number, { how: "refused", ...makeRefusal("ERR_MEMORY", reasonOf(error)) });
    }
  }

  #sendPacket({ heads, fds, bodies }: Packet): void {
    const body = Buffer.concat(bodies);
    try {
      if (this.#link.send({ type: "offer", parcels: heads }, fds, body)) return;
      // Parcels that were sent before may be with the other end, which may live until end() says that it is dead.
      this.#isOpen = false;
    } catch (error) {
      // It had to be queued, for which there are no descriptors; or the head of a single parcel is too large.
      if (codeOf(error, "ERR_INTERNAL") === "ERR_PROTOCOL") {
        const refusal = makeRefusal("ERR_TOO_LARGE", reasonOf(error));
        for (const { number } of heads) this.#settle(number, { how: "refused", ...refusal });
        return;
      }
    } finally {
      // It may hold the keys of connections.
      body.fill(0);
    }
    for (const { number } of heads) this.#unsent.add(number);
    // It may be offered again at once: settled in this turn, that would keep the event loop from closing others.
    setImmediate(() => {
      for (const { number } of heads) this.#settle(number, withdrawn(false));
    });
  }

  /** One for all offers. */
  readonly #withdraw = (number: number): void => {
    if (this.#unsent.has(number)) this.#settle(number, withdrawn(false));
    else if (this.#unsettled.has(number)) this.#link.send({ type: "withdraw", numbers: [number] });
  };

  #settleAll(died: boolean): void {
    for (const number of this.#unsettled.keys()) this.#settle(number, withdrawn(died));
  }

  #settle(number: number, settlement: Settlement): void {
    this.#unsettled.get(number)?.settle(settlement);
    this.#unsettled.delete(number);
    this.#unsent.delete(number);
  }
}

class OpenOffer implements Offered {
  readonly settled: Promise<Settlement>;
  settle!: (settlement: Settlement) => void;
  readonly #number: number;
  readonly #withdraw: (number: number) => void;

  constructor(number: number, withdraw: (number: number) => void) {
    this.#number = number;
    this.#withdraw = withdraw;
    this.settled = new Promise((resolve) => (this.settle = resolve));
  }

  withdraw(): void {
    this.#withdraw(this.#number);
  }
}

/** The head of a parcel whose body is inline. */
export function headOf(number: number, parcel: Parcel, sha256: string): ParcelHead {
  const { kind, label, id, version, codec, body, fds } = parcel;
  return { number, kind, label, id, version, codec, size: body.length, sha256, fds: fds.length };
}

interface Packed {
  head: ParcelHead;
  parcel: Parcel;
}

/** The contents of one message. */
interface Packet {
  heads: ParcelHead[];
  fds: number[];
  bodies: Uint8Array[];
}

function pack(number: number, parcel: Parcel): Packed {
  return { head: headOf(number, parcel, digest(parcel.body)), parcel };
}

function toPacket(packed: readonly Packed[]): Packet {
  return {
    heads: packed.map(({ head }) => head),
    fds: packed.flatMap(({ parcel }) => parcel.fds),
    bodies: packed.map(({ parcel }) => parcel.body),
  };
}

/** Whether the body of a parcel travels beside its head; else it is a memory file. */
export function isInline(parcel: Parcel, maxSize: number): boolean {
  return parcel.body.length <= MAX_INLINE && sizeOf(parcel) <= filledSize(maxSize);
}

/** An upper bound of the bytes of a parcel: JSON may need six for a character. */
function sizeOf({ label, id, codec, body }: Parcel): number {
  return body.length + 6 * (label.length + id.length + codec.length) + HEAD;
}

/** Bytes of a head without its texts. */
const HEAD = 256;

/** Descriptors of one message: fewer than SCM_MAX_FD. */
const DESCRIPTORS = 128;

function withdrawn(died: boolean): Settlement {
  return { how: "withdrawn", refusals: [], died };
}
