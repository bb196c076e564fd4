import { hostname } from "node:os";
import type { OtherSeat, SeatRow } from "../hosts/engine.js";
import { padded, leaseOf, NONE, ownedBy, readOwned } from "./keys.js";
import type { Store } from "./store.js";
import {
  beginsWith,
  is,
  isAbsent,
  isPresent,
  isUnchanged,
  list,
  nested,
  put,
  remove,
  type Entry,
  type Operation,
  type TxnResult,
} from "./txn.js";

/** The seats of a service, each with a lease of etcd: its key is gone when the lease has ended. */
export class Seats {
  readonly #store: Store;
  readonly #seconds: number;

  /** @param lease in ms; etcd counts in seconds, and adds up to two */
  constructor(store: Store, lease: number) {
    this.#store = store;
    this.#seconds = Math.ceil(lease / 1_000);
  }

  async enter(seat: SeatRow): Promise<{ started: number; others: OtherSeat[] }> {
    const { keys, gateway } = this.#store;
    const lease = leaseOf(seat.seat);
    await gateway.grant(lease, this.#seconds);
    const key = keys.seat(seat.seat);
    const all = list(keys.seat());
    const result = await gateway.txn(
      [isAbsent(key)],
      [
        nested([isAbsent(keys.fence)], [put(keys.fence, padded(0))]),
        put(key, this.#valueOf(seat), lease),
        put(keys.known(seat.seat), ""),
        all,
      ],
      // It was entered, and the answer was lost.
      [all],
      true,
    );
    const seats = entriesOf(result);
    const own = seats.find((entry) => entry.key === key);
    if (own === undefined) throw new Error("the lease has ended at once");
    return { started: own.created, others: this.#read(seats, seat.seat) };
  }

  async beat(seat: SeatRow, former?: string): Promise<OtherSeat[] | undefined> {
    const { keys, gateway } = this.#store;
    const lease = leaseOf(seat.seat);
    if (!(await gateway.renew(lease))) return undefined;
    const key = keys.seat(seat.seat);
    const value = this.#valueOf(seat);
    const beat: Operation[] = [
      // The others hear of it only if something has changed.
      nested([is(key, value)], [], [put(key, value, lease)]),
      this.#store.raise(seat.fence),
      put(keys.bell(seat.seat), "", lease),
      list(keys.seat()),
    ];
    const takesOver = former === "" ? [isPresent(key)] : beginsWith(key, former ?? seat.holder);
    const result = await gateway.txn(beginsWith(key, seat.holder), beat, [nested(takesOver, beat)], true);
    const beaten = result.succeeded ? result : result.answers[0]!.txn!;
    return beaten.succeeded ? this.#read(entriesOf(beaten), seat.seat) : undefined;
  }

  async renew(seat: string): Promise<OtherSeat[] | undefined> {
    const { keys, gateway } = this.#store;
    if (!(await gateway.renew(leaseOf(seat)))) return undefined;
    return this.#read((await gateway.read([list(keys.seat())])).answers[0]!.entries, seat);
  }

  /** Its roles are free at once. That it was known stays: something of it may be left. */
  async leave(seat: string): Promise<void> {
    const { keys, gateway } = this.#store;
    const roles = (await gateway.read([list(keys.role())])).answers[0]!.entries;
    const held = roles
      .map((entry) => ({ entry, owned: readOwned(entry.value) }))
      .filter(({ owned }) => owned.seat === seat)
      .slice(0, MOST_ROLES);
    if (held.length > 0)
      await gateway.txn(
        [],
        [
          ...held.map(({ entry, owned: { fence } }) =>
            nested([isUnchanged(entry)], [put(entry.key, ownedBy(NONE, fence))]),
          ),
          put(keys.roleBell, ""),
        ],
        [],
        true,
      );
    await gateway.revoke(leaseOf(seat));
    await gateway.txn([], [remove(keys.bell(seat))], [], true);
  }

  #valueOf(seat: SeatRow): string {
    return this.#store.seatValue({ host: hostname(), ...seat });
  }

  #read(entries: readonly Entry[], own: string): OtherSeat[] {
    const all = entries.map((entry) => this.#store.readSeat(entry));
    const others = all.filter(({ seat }) => seat !== own);
    this.#store.others = others;
    return others;
  }
}

function entriesOf({ answers }: TxnResult): readonly Entry[] {
  return answers.at(-1)!.entries;
}

/** Roles that are given up in one question. The lease's end frees the others. */
const MOST_ROLES = 100;
