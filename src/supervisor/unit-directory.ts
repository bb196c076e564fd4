import type { WorkerName } from "../channel/messages.js";
import { FencingTokens } from "../exchange/fencing.js";

/** A process that can own units. */
export interface UnitHolder extends WorkerName {
  readonly isDead: boolean;
  /** Reads the messages that have arrived, without waiting for the event loop. */
  readNow(): void;
}

/** The right of a process to a unit. Each unit has one for its owner, and one for each former owner that can have it back. */
interface Claim {
  readonly holder: UnitHolder;
  readonly fence: number;
  /** Of the process that the holder has taken the unit from. */
  readonly before: Claim | undefined;
}

/** The units by kind and ID, each with the PIDs of those that claim it and their fences, the owner first. */
export interface UnitsState {
  readonly fence: number;
  readonly kinds: readonly (readonly [
    kind: string,
    units: readonly (readonly [id: string, claims: readonly (readonly [pid: number, fence: number])[]])[],
  ])[];
}

/**
 * Which worker owns which unit, over all workers of the service: the supervisor's end of `exchange/directory.ts`. A claim ends
 * with the life of its process, at once.
 */
export class UnitDirectory {
  readonly #kinds = new Map<string, Map<string, Claim>>();
  readonly #fences = new FencingTokens();
  #isReading = false;

  /** For {@link restore}. */
  get state(): UnitsState {
    return {
      fence: this.#fences.last,
      kinds: [...this.#kinds].map(([kind, units]) => [
        kind,
        [...units].map(([id, owner]) => [id, chainOf(owner).map(({ holder, fence }) => [holder.pid, fence])]),
      ]),
    };
  }

  /** @param holderOf the worker with a PID; undefined if it is gone */
  restore({ fence, kinds }: UnitsState, holderOf: (pid: number) => UnitHolder | undefined): void {
    this.#fences.advanceTo(fence);
    for (const [kind, units] of kinds) {
      const claims = new Map<string, Claim>();
      for (const [id, chain] of units) {
        let claim: Claim | undefined;
        for (const [pid, of] of chain.toReversed()) {
          const holder = holderOf(pid);
          if (holder !== undefined) claim = { holder, fence: of, before: claim };
        }
        if (claim !== undefined) claims.set(id, claim);
      }
      if (claims.size > 0) this.#kinds.set(kind, claims);
    }
  }

  /** The number of units that have an owner. */
  get size(): number {
    let size = 0;
    for (const units of this.#kinds.values()) size += units.size;
    return size;
  }

  /**
   * @param from the PID of a worker that offers the units to `holder`
   * @returns for each unit its fence, or its owner if that is another process
   */
  own(holder: UnitHolder, kind: string, ids: readonly string[], from?: number): (number | WorkerName)[] {
    if (holder.isDead) return ids.map(() => nameOf(holder));
    const units = this.#kinds.get(kind) ?? new Map<string, Claim>();
    this.#kinds.set(kind, units);
    const claim = (id: string): number | Claim => this.#claim(holder, units, id, from);
    const results = ids.map(claim);
    const owners = new Set(results.flatMap((result) => (typeof result === "number" ? [] : result.holder)));
    const isNews = this.#readAll(owners);
    return results.map((result, n) => {
      if (typeof result === "number") return result;
      const again = isNews ? claim(ids[n]!) : result;
      return typeof again === "number" ? again : nameOf(again.holder);
    });
  }

  disown(holder: UnitHolder, kind: string, ids: readonly string[], fences: readonly number[]): void {
    const units = this.#kinds.get(kind);
    if (units === undefined) return;
    for (const [n, id] of ids.entries())
      replace(units, id, (one) => one.holder !== holder || one.fence !== fences[n]);
  }

  where(kind: string, id: string): WorkerName | undefined {
    const units = this.#kinds.get(kind);
    const owner = units === undefined ? undefined : replace(units, id, isAlive);
    return owner && nameOf(owner.holder);
  }

  /** A worker is gone: its units are free, or their former owners' again. */
  bury(holder: UnitHolder): void {
    for (const [kind, units] of this.#kinds) {
      for (const id of units.keys()) replace(units, id, (one) => one.holder !== holder);
      if (units.size === 0) this.#kinds.delete(kind);
    }
  }

  /** The fence of the holder's claim; or the claim of another process, which is in the way. */
  #claim(
    holder: UnitHolder,
    units: Map<string, Claim>,
    id: string,
    from: number | undefined,
  ): number | Claim {
    const owner = replace(units, id, isAlive);
    if (owner !== undefined && owner.holder !== holder && owner.holder.pid !== from) return owner;
    const fence = this.#fences.next();
    units.set(id, { holder, fence, before: filter(owner, (one) => one.holder !== holder) });
    return fence;
  }

  /**
   * Reads what owners have sent. One may have given a unit up before another worker asked for it, and its word waits on its
   * own link. Returns whether they were read.
   */
  #readAll(owners: ReadonlySet<UnitHolder>): boolean {
    // A question that is read meanwhile must not read on the link of this one, whose later messages would come first.
    if (this.#isReading || owners.size === 0) return false;
    this.#isReading = true;
    try {
      for (const owner of owners) owner.readNow();
    } finally {
      this.#isReading = false;
    }
    return true;
  }
}

/** The claims of a unit, the owner's first. */
function chainOf(claim: Claim | undefined): Claim[] {
  return claim === undefined ? [] : [claim, ...chainOf(claim.before)];
}

/** Keeps the claims of a unit that `isKept`. Returns the owner's. */
function replace(
  units: Map<string, Claim>,
  id: string,
  isKept: (claim: Claim) => boolean,
): Claim | undefined {
  const owner = units.get(id);
  const next = filter(owner, isKept);
  if (next === undefined) units.delete(id);
  else if (next !== owner) units.set(id, next);
  return next;
}

function filter(claim: Claim | undefined, isKept: (claim: Claim) => boolean): Claim | undefined {
  if (claim === undefined) return undefined;
  const before = filter(claim.before, isKept);
  if (!isKept(claim)) return before;
  return before === claim.before ? claim : { ...claim, before };
}

const isAlive = ({ holder }: Claim): boolean => !holder.isDead;

function nameOf({ index, generation, pid }: UnitHolder): WorkerName {
  return { index, generation, pid };
}
