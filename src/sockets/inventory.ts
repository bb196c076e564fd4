import { lstatSync, unlinkSync } from "node:fs";
import type { InventoryEntry } from "../channel/messages.js";
import type { FileIdentity } from "../address.js";
import { HandoverError } from "../errors.js";
import { check, native } from "../platform/native.js";

/** A descriptor of the inventory. */
export interface InventoryItem extends InventoryEntry {
  readonly fd: number;
  /** It was in systemd's descriptor store, and has not been asked for yet. */
  readonly stored?: boolean;
}

interface InventoryListener {
  /** A descriptor has come into use, or is no longer used. */
  changed(): void;
}

/**
 * The descriptors by name, and their only owner. *Inherited* came from the parent and is not used yet; *used*
 * is what a child is given. Whoever works with one gets a duplicate.
 */
export class Inventory {
  readonly #inherited = new Map<string, InventoryItem>();
  readonly #used = new Map<string, InventoryItem>();
  /** Names that are being bound. */
  readonly #reserved = new Set<string>();
  /** What the predecessor may need again: its files stay until it has left us to ourselves. */
  readonly #borrowed: Set<InventoryItem>;
  /** Borrowed ones that were released meanwhile. */
  readonly #released = new Set<InventoryItem>();
  #hasClosedUnused = false;
  /** Tells the predecessor what is used, until it has said go. */
  #report: (() => void) | undefined;
  readonly #listener: InventoryListener;

  constructor(inherited: readonly InventoryItem[], listener: InventoryListener) {
    this.#listener = listener;
    this.#borrowed = new Set(inherited);
    for (const item of inherited) this.#inherited.set(item.name, item);
  }

  /** The predecessor has said go. What nobody used is closed, and stays its own. */
  closeUnused(): void {
    this.#report = undefined;
    for (const item of this.#inherited.values()) {
      if (item.activation !== undefined) continue;
      this.#inherited.delete(item.name);
      native().close(item.fd);
      // There is no predecessor that would unlink its file.
      if (item.stored === true) this.#released.add(item);
    }
    this.#hasClosedUnused = true;
  }

  /** The predecessor cannot come back: what it had lent is ours. */
  forgetLender(): void {
    for (const item of this.#released) unlinkOwn(item);
    this.#released.clear();
    this.#borrowed.clear();
  }

  /** Whether a name belongs to this generation already. */
  isTaken(name: string): boolean {
    return this.#used.has(name) || this.#reserved.has(name);
  }

  /** Keeps a name for who asked first; the answer to {@link take} may take its time. */
  reserve(name: string): void {
    this.#reserved.add(name);
  }

  unreserve(name: string): void {
    this.#reserved.delete(name);
  }

  /**
   * Takes an inherited descriptor into use, if it is what the caller means.
   *
   * Asynchronous, as a worker of a supervisor has to ask for it.
   */
  async take(name: string, isMeant: (item: InventoryItem) => boolean): Promise<InventoryItem | undefined> {
    const item = this.#inherited.get(name);
    if (item === undefined || !isMeant(item)) return undefined;
    this.#inherited.delete(name);
    this.#used.set(name, item);
    this.#report?.();
    return item;
  }

  /** Takes one that systemd has passed into use, as what this program calls it. */
  rename({ stored: _, ...item }: InventoryItem, as: Pick<InventoryItem, "name" | "address">): InventoryItem {
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
   * Tells what it has taken into use of the predecessor's, which then leaves it alone; and again when that grows before
   * {@link closeUnused}.
   */
  reportUsed(tell: (used: string[]) => void): void {
    this.#report = () => {
      this.#released.clear();
      const lent = this.used().filter((item) => this.#borrowed.has(item));
      tell(lent.map(({ name }) => name));
    };
    this.#report();
  }

  /** What this generation works with. */
  used(): readonly InventoryItem[] {
    return [...this.#used.values()];
  }

  /** What a successor is given: that, and what systemd has passed and nobody has asked for yet. */
  forSuccessor(): readonly InventoryItem[] {
    return [...this.#used.values(), ...this.#inherited.values()];
  }

  /** A duplicate of what is used under a name, the caller's to close. */
  duplicate(name: string): number {
    const item = this.#used.get(name);
    if (item === undefined) throw new HandoverError("ERR_DESCRIPTOR", `there is no descriptor "${name}"`);
    return check(native().duplicate(item.fd), "duplicate the descriptor of", name);
  }

  /** Gives up one descriptor, and the file of a Unix listener with it. */
  release(name: string): void {
    const item = this.#used.get(name);
    if (item === undefined) return;
    this.#used.delete(name);
    native().close(item.fd);
    if (this.#borrowed.has(item)) this.#released.add(item);
    else unlinkOwn(item);
    this.#listener.changed();
  }

  /** Closes what is used, and unlinks its files, but those of the names that a successor has. */
  closeUsed(handedOn: ReadonlySet<string>): void {
    if (this.#hasClosedUnused) this.forgetLender();
    for (const item of this.#used.values()) {
      native().close(item.fd);
      if (!handedOn.has(item.name) && !this.#borrowed.has(item)) unlinkOwn(item);
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

/** Unlinks the file of a Unix listener if it is still the one that we made. */
function unlinkOwn({ file }: InventoryItem): void {
  if (file === undefined) return;
  try {
    const now = identify(file.path);
    if (now.dev === file.dev && now.ino === file.ino) unlinkSync(file.path);
  } catch {
    // Somebody else has removed it: there is nothing of ours left.
  }
}
