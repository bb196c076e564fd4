import { lstatSync, unlinkSync } from "node:fs";
import type { InventoryEntry } from "../channel/messages.js";
import type { FileIdentity } from "../address.js";
import { HandoverError } from "../errors.js";
import { check, native } from "../platform/native.js";

/** A descriptor of the inventory. */
export interface InventoryItem extends InventoryEntry {
  readonly fd: number;
  /** It was in systemd's descriptor store, and is not used yet. */
  readonly stored?: boolean;
  /** It is one of a reuse-port group: that of the worker of this index, at this position of the kernel's order. */
  readonly member?: { readonly index: number; readonly position: number };
}

interface InventoryListener {
  /** A descriptor has come into use, or is no longer used. */
  changed(): void;
}

/**
 * The descriptors by name, and their only owner. An *inherited* one came from the predecessor and is not used yet; *used*
 * ones are given to a successor. Other code gets a duplicate.
 */
export class Inventory {
  readonly #inherited = new Map<string, InventoryItem>();
  readonly #used = new Map<string, InventoryItem>();
  /** Names that are being bound. */
  readonly #reserved = new Set<string>();
  /** Descriptors that the predecessor needs after a rollback: their files stay until that is impossible. */
  readonly #borrowed: Set<InventoryItem>;
  /** Borrowed descriptors that were closed meanwhile. */
  readonly #released = new Set<InventoryItem>();
  /** Used ones that the program has closed since {@link lend}. */
  readonly #closing = new Set<string>();
  #isLent = false;
  #hasClosedUnused = false;
  /** Sends the predecessor the names that are used, until the commit. */
  #report: (() => void) | undefined;
  readonly #listener: InventoryListener;

  constructor(inherited: readonly InventoryItem[], listener: InventoryListener) {
    this.#listener = listener;
    this.#borrowed = new Set(inherited);
    for (const item of inherited) this.#inherited.set(item.name, item);
  }

  /** At the commit: closes the descriptors that are not used, which stay the predecessor's. */
  closeUnused(): void {
    this.#report = undefined;
    for (const item of this.#inherited.values()) {
      if (item.activation !== undefined) continue;
      this.#inherited.delete(item.name);
      native().close(item.fd);
      // No predecessor would unlink its file.
      if (item.stored === true) this.#released.add(item);
    }
    this.#hasClosedUnused = true;
  }

  /** A rollback is impossible: borrowed descriptors are this process's own. */
  endLoan(): void {
    for (const item of this.#released) unlinkOwn(item);
    this.#released.clear();
    this.#borrowed.clear();
  }

  /** Whether a name belongs to this generation already. */
  isTaken(name: string): boolean {
    return this.#used.has(name) || this.#reserved.has(name);
  }

  /** Reserves a name for the first request for it: {@link take} is asynchronous. */
  reserve(name: string): void {
    this.#reserved.add(name);
  }

  unreserve(name: string): void {
    this.#reserved.delete(name);
  }

  /**
   * Takes an inherited descriptor into use, if `isMeant` accepts it.
   */
  async take(name: string, isMeant: (item: InventoryItem) => boolean): Promise<InventoryItem | undefined> {
    const item = this.#inherited.get(name);
    if (item === undefined || !isMeant(item)) return undefined;
    this.#inherited.delete(name);
    this.#used.set(name, item);
    this.#report?.();
    return item;
  }

  /** Takes a descriptor that systemd has passed into use, under the name and address that the program requested. */
  rename(
    { stored: _, member: __, ...item }: InventoryItem,
    as: Pick<InventoryItem, "name" | "address">,
  ): InventoryItem {
    const inherited = this.#inherited.get(item.name)!;
    const adopted = { ...item, ...as };
    this.#inherited.delete(item.name);
    if (this.#borrowed.delete(inherited)) this.#borrowed.add(adopted);
    this.#used.set(adopted.name, adopted);
    return adopted;
  }

  /** Adds a descriptor, which the inventory owns from now on. */
  add(item: InventoryItem): void {
    this.#used.set(item.name, item);
    this.#listener.changed();
  }

  inherited(): readonly InventoryItem[] {
    return [...this.#inherited.values()];
  }

  inheritedNames(): string[] {
    return [...this.#inherited.keys()];
  }

  /**
   * Reports the names of the predecessor's descriptors that are used; and again when there are more, until
   * {@link closeUnused}. The predecessor does not unlink their files.
   */
  reportUsed(report: (used: string[]) => void): void {
    this.#report = () => {
      this.#released.clear();
      const lent = this.used().filter((item) => this.#borrowed.has(item));
      report(lent.map(({ name }) => name));
    };
    this.#report();
  }

  /** The descriptors that this generation uses. */
  used(): readonly InventoryItem[] {
    return [...this.#used.values()];
  }

  /** The descriptors for a successor: used ones, and those of systemd that are not used yet. */
  forSuccessor(): readonly InventoryItem[] {
    return [...this.#used.values(), ...this.#inherited.values()];
  }

  /**
   * A duplicate of the descriptor that is used under a name, the caller's to close.
   *
   * @throws {HandoverError} `ERR_DESCRIPTOR`
   */
  duplicate(name: string): number {
    const item = this.#used.get(name);
    if (item === undefined)
      throw new HandoverError("ERR_DESCRIPTOR", `cannot duplicate the descriptor of ${name}: there is none`);
    return check(native().duplicate(item.fd), "duplicate the descriptor of", name);
  }

  /**
   * A successor is being started: a descriptor that the program closes from now on stays here, and its file, too. The
   * successor inherits it.
   */
  lend(): void {
    this.#isLent = true;
  }

  /** There is no successor: closes the descriptors that the program has closed since {@link lend}. */
  reclaim(): void {
    this.#isLent = false;
    for (const name of this.#closing) this.close(name);
    this.#closing.clear();
  }

  /** Closes one descriptor, and unlinks the file of a Unix listener; while it is lent, {@link reclaim} does. */
  close(name: string): void {
    const item = this.#used.get(name);
    if (item === undefined) return;
    if (this.#isLent) return void this.#closing.add(name);
    this.#used.delete(name);
    if (this.#borrowed.has(item) && !this.#hasClosedUnused) {
      // The predecessor holds the address, so that a second listen() could not bind it.
      this.#inherited.set(name, item);
      this.#report?.();
      return;
    }
    native().close(item.fd);
    if (this.#borrowed.has(item)) this.#released.add(item);
    else unlinkOwn(item);
    this.#listener.changed();
  }

  /** Closes every descriptor, and unlinks the files of used ones, except those of names that a successor uses. */
  closeUsed(bySuccessor: ReadonlySet<string>): void {
    if (this.#hasClosedUnused) this.endLoan();
    for (const item of this.#used.values()) {
      native().close(item.fd);
      if (!bySuccessor.has(item.name) && !this.#borrowed.has(item)) unlinkOwn(item);
    }
    this.#used.clear();
    for (const item of this.#inherited.values()) native().close(item.fd);
    this.#inherited.clear();
  }
}

export function identify(path: string): FileIdentity {
  const { dev, ino } = lstatSync(path, { bigint: true });
  return { path, dev: String(dev), ino: String(ino) };
}

/** Unlinks the file of a Unix listener, unless another file has taken its place. */
function unlinkOwn({ file }: InventoryItem): void {
  if (file === undefined) return;
  try {
    const now = identify(file.path);
    if (now.dev === file.dev && now.ino === file.ino) unlinkSync(file.path);
  } catch {
    // It was removed by another process.
  }
}
