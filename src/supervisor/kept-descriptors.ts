import type { InventoryEntry } from "../channel/messages.js";
import { native } from "../platform/native.js";
import type { InventoryItem } from "../sockets/inventory.js";

type Items = Map<string, InventoryItem>;

/**
 * Descriptors that workers have added themselves, for the next worker of their index. Those of a worker that does not serve yet
 * count from the moment at which it has taken its place: if it fails, the next one inherits what the one that serves has.
 */
export class KeptDescriptors<Worker extends object> {
  readonly #byIndex = new Map<number, Items>();
  /** Of workers that have not taken their places; undefined: closed. */
  readonly #pending = new Map<Worker, Map<string, InventoryItem | undefined>>();

  /** By index. */
  get state(): [number, InventoryItem[]][] {
    return [...this.#byIndex].map(([index, items]) => [index, [...items.values()]]);
  }

  restore(kept: readonly [number, InventoryItem[]][]): void {
    for (const [index, items] of kept)
      this.#byIndex.set(index, new Map(items.map((item) => [item.name, item])));
  }

  /** What a new worker of an index inherits. */
  of(index: number): InventoryItem[] {
    return [...(this.#byIndex.get(index)?.values() ?? [])];
  }

  /** @param fd this object's own from now on */
  keep(index: number, entry: InventoryEntry, fd: number): void {
    this.#set(index, entry.name, { ...entry, fd });
  }

  release(index: number, name: string): void {
    this.#set(index, name, undefined);
  }

  /** {@link keep} of a worker that has not taken its place; without a descriptor {@link release}. */
  hold(worker: Worker, name: string, item: InventoryItem | undefined): void {
    const items = this.#pending.get(worker) ?? new Map<string, InventoryItem | undefined>();
    this.#pending.set(worker, items);
    close(items.get(name));
    items.set(name, item);
  }

  /** A worker has taken the place of its index. */
  install(worker: Worker, index: number): void {
    for (const [name, item] of this.#pending.get(worker) ?? []) this.#set(index, name, item);
    this.#pending.delete(worker);
  }

  /** A worker is dead, and has not taken a place. */
  drop(worker: Worker): void {
    for (const item of this.#pending.get(worker)?.values() ?? []) close(item);
    this.#pending.delete(worker);
  }

  removeIndex(index: number): void {
    for (const item of this.#byIndex.get(index)?.values() ?? []) close(item);
    this.#byIndex.delete(index);
  }

  closeAll(): void {
    for (const index of this.#byIndex.keys()) this.removeIndex(index);
    for (const worker of this.#pending.keys()) this.drop(worker);
  }

  #set(index: number, name: string, item: InventoryItem | undefined): void {
    const items = this.#byIndex.get(index) ?? new Map<string, InventoryItem>();
    close(items.get(name));
    if (item === undefined) items.delete(name);
    else this.#byIndex.set(index, items.set(name, item));
  }
}

function close(item: InventoryItem | undefined): void {
  if (item !== undefined) native().close(item.fd);
}
