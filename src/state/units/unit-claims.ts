import { HandoverError, type UnitOwner } from "../../errors.js";
import type { Directory, Ownership, OwnResult } from "../../exchange/directory.js";
import type { Peer } from "../../exchange/parcel.js";
import { TIMED_OUT, withTimeout } from "../../util/timeout.js";

/** What this process asks the directory about the units of one kind. It asks once about a unit at a time. */
export class UnitClaims {
  readonly #directory: Directory;
  readonly #kind: string;
  readonly #index: number | undefined;
  readonly #pending = new Map<string, Promise<unknown>>();

  /** @param index of this process among the workers of the supervisor that keeps the directory; undefined between hosts */
  constructor(directory: Directory, kind: string, index: number | undefined) {
    this.#directory = directory;
    this.#kind = kind;
    this.#index = index;
  }

  /** Whether an answer is awaited. */
  isPending(id: string): boolean {
    return this.#pending.has(id);
  }

  /**
   * Waits for the answer about a unit, and until it was used.
   *
   * @param timeout in ms, since the question or the last answer about another unit
   * @throws {HandoverError} `ERR_UNIT` if it does not come in time
   */
  async settled(id: string, timeout: number, doing: string): Promise<void> {
    const pending = this.#pending.get(id)?.catch(() => {});
    const asked = performance.now();
    // Many units are asked for batch after batch. One that waits for its turn is not late.
    for (let left = timeout; left > 0;) {
      if ((await withTimeout(left, pending)) !== TIMED_OUT) return;
      left = Math.max(asked, this.#directory.lastAnswer ?? asked) + timeout - performance.now();
    }
    throw new HandoverError(
      "ERR_UNIT",
      `cannot ${doing}: the ${this.#keeper} did not answer within ${timeout} ms`,
    );
  }

  /**
   * Asks for a unit. Nothing else happens to it until `use` has returned; if it throws, the unit is given up.
   *
   * @param from the process that offers it
   * @param before is waited for before the directory is asked
   * @throws as `use`; {HandoverError} if the directory cannot be asked
   */
  async own<T>(
    id: string,
    from: Peer | undefined,
    use: (result: OwnResult) => T,
    before?: Promise<void>,
  ): Promise<Awaited<T>> {
    // What `use` returns may be a promise that takes long: it is not waited for here.
    const used = this.#ask(id, from, before).then((result) => ({ value: this.#use(id, result, use) }));
    this.#pending.set(id, used);
    return (await used).value as Awaited<T>;
  }

  /**
   * Asks for a unit that is to begin.
   *
   * @param timeout for the answer, in ms: see {@link settled}
   * @throws {HandoverError} `ERR_ELSEWHERE`, `ERR_UNIT`; as `begin`
   */
  async begin<T>(id: string, timeout: number, doing: string, begin: (fence: number) => T): Promise<T> {
    let isLate = false;
    const owning = this.own(id, undefined, (result) => {
      const fence = this.#requireFence(result, doing);
      if (isLate) throw new HandoverError("ERR_UNIT", `cannot ${doing}: the ${this.#keeper} answered late`);
      return { begun: begin(fence) };
    });
    owning.catch(() => {});
    await this.settled(id, timeout, doing).catch((error: unknown) => {
      isLate = true;
      throw error;
    });
    return (await owning).begun;
  }

  get #keeper(): string {
    return this.#index === undefined ? "engine of the hosts" : "supervisor";
  }

  disown(unit: Ownership): void {
    this.#directory.disown(this.#kind, [unit]);
  }

  async where(id: string): Promise<UnitOwner | undefined> {
    return this.#directory.where(this.#kind, id);
  }

  async #ask(id: string, from: Peer | undefined, before: Promise<void> | undefined): Promise<OwnResult> {
    try {
      if (before !== undefined) await before;
      const [result] = await this.#directory.own(this.#kind, [id], from);
      return result!;
    } finally {
      this.#pending.delete(id);
    }
  }

  #use<T>(id: string, result: OwnResult, use: (result: OwnResult) => T): T {
    try {
      return use(result);
    } catch (error) {
      if ("fence" in result) this.disown({ id, fence: result.fence });
      throw error;
    }
  }

  #requireFence(result: OwnResult, doing: string): number {
    if ("fence" in result) return result.fence;
    const { owner } = result;
    const { index, pid } = owner;
    if (this.#index === undefined) {
      const where = owner.address ?? `process ${pid}`;
      const host = owner.host ?? "another host";
      const message = `cannot ${doing}: ${where} on ${host} has it`;
      throw new HandoverError("ERR_ELSEWHERE", message, { owner });
    }
    if (index !== this.#index)
      throw new HandoverError("ERR_ELSEWHERE", `cannot ${doing}: worker ${index} (pid ${pid}) has it`, {
        owner,
      });
    // A caller that were sent to the worker that has the unit would come here again.
    throw new HandoverError(
      "ERR_UNIT",
      `cannot ${doing}: an older process of this worker (pid ${pid}) has it, and drains`,
    );
  }
}
