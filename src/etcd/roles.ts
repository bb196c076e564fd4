import { NONE, ownedBy, readOwned } from "./keys.js";
import type { Store } from "./store.js";
import { get, getName, isAbsent, isPresent, isUnchanged, put } from "./txn.js";

/** Which seat has which role. */
export class Roles {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  async acquire(seat: string, role: string): Promise<number | undefined> {
    const { keys, gateway } = this.#store;
    const key = keys.role(role);
    const found = await gateway.read([get(key), get(keys.fence)]);
    const [entry] = found.answers[0]!.entries;
    this.#store.seen(Number(found.answers[1]!.entries[0]?.value ?? 0));
    let fence = this.#store.nextFence();
    if (entry !== undefined) {
      const owned = readOwned(entry.value);
      if (owned.seat === seat || owned.seat === NONE) fence = Math.max(fence, owned.fence + 1);
      else {
        // Only a role that is free is asked for: each question that could write costs all of etcd.
        const holder = await gateway.read([getName(keys.seat(owned.seat))]);
        if (holder.answers[0]!.entries.length > 0) return undefined;
        fence = this.#store.fenceAfterDeath(owned.fence);
      }
    }
    const { succeeded } = await gateway.txn(
      [isPresent(keys.seat(seat)), entry === undefined ? isAbsent(key) : isUnchanged(entry)],
      [put(key, ownedBy(seat, fence))],
    );
    return succeeded ? fence : undefined;
  }

  async release(seat: string, role: string, fence: number): Promise<void> {
    const { keys, gateway } = this.#store;
    const key = keys.role(role);
    for (;;) {
      const [entry] = (await gateway.read([get(key)])).answers[0]!.entries;
      if (entry === undefined) return;
      const owned = readOwned(entry.value);
      if (owned.seat !== seat) return;
      const free = ownedBy(NONE, Math.max(fence, owned.fence));
      const { succeeded } = await gateway.txn([isUnchanged(entry)], [put(key, free), put(keys.roleBell, "")]);
      if (succeeded) return;
    }
  }
}
