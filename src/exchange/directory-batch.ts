import type { Ownership, OwnResult } from "./directory.js";
import type { UnitOwner } from "../errors.js";

/** A question for one unit, which its caller waits for. */
export interface Question {
  readonly id: string;
  resolve(result: OwnResult): void;
  reject(error: unknown): void;
}

/** Questions about units of one kind. Either one process offers all of these units to this one, or none are offered. */
export interface Questions<From> {
  readonly kind: string;
  readonly from: From | undefined;
  readonly all: Question[];
}

/** What a directory is asked and told in one turn of the event loop: a round trip for each of 10,000 units would take seconds. */
export class DirectoryBatch<From extends number | string> {
  readonly #onTurn: () => void;
  /** By kind and by the process that offers the units. */
  #questions = new Map<string, Questions<From>>();
  /** By kind. */
  #disowned = new Map<string, Ownership[]>();
  #isCollecting = false;

  /** @param onTurn is called at the end of a turn in which something was added */
  constructor(onTurn: () => void) {
    this.#onTurn = onTurn;
  }

  async own(kind: string, ids: readonly string[], from?: From): Promise<readonly OwnResult[]> {
    this.#collect();
    const key = `${from ?? ""}\0${kind}`;
    const { all } = this.#questions.get(key) ?? { all: [] as Question[] };
    this.#questions.set(key, { kind, from, all });
    return Promise.all(
      ids.map(async (id) => new Promise<OwnResult>((resolve, reject) => all.push({ id, resolve, reject }))),
    );
  }

  disown(kind: string, units: readonly Ownership[]): void {
    this.#collect();
    const all = this.#disowned.get(kind) ?? [];
    this.#disowned.set(kind, all);
    for (const unit of units) all.push(unit);
  }

  /** What was given up, which has to be told first, and the questions. They are the caller's from now on. */
  take(): { readonly disowned: ReadonlyMap<string, readonly Ownership[]>; questions: Questions<From>[] } {
    this.#isCollecting = false;
    const taken = { disowned: this.#disowned, questions: [...this.#questions.values()] };
    this.#disowned = new Map();
    this.#questions = new Map();
    return taken;
  }

  /** What was given up is given up with the lease. */
  dropDisowned(): void {
    this.#disowned.clear();
  }

  #collect(): void {
    if (this.#isCollecting) return;
    this.#isCollecting = true;
    queueMicrotask(this.#onTurn);
  }
}

/** @param results in the order of the questions */
export function answer(questions: readonly Question[], results: readonly (number | UnitOwner)[]): void {
  for (const [n, question] of questions.entries()) {
    const result = results[n]!;
    question.resolve(typeof result === "number" ? { fence: result } : { owner: result });
  }
}
