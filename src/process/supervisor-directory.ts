import { filledSize, type Message, type WorkerName } from "../channel/messages.js";
import type { UnitOwner } from "../errors.js";
import type { Directory, Ownership, OwnResult } from "../exchange/directory.js";
import type { Peer } from "../exchange/parcel.js";
import { batches } from "../util/batches.js";

/** The control link, as far as the directory uses it. */
interface DirectoryLink {
  /** Bytes of the largest message. */
  readonly maxSize: number;
  send(message: Message): void;
  /** @throws {HandoverError} `ERR_STOPPED` if the supervisor is gone */
  request(message: (number: number) => Message): Promise<readonly (number | WorkerName)[]>;
}

/** A question for one unit, which its caller waits for. */
interface Question {
  readonly id: string;
  resolve(result: OwnResult): void;
  reject(error: unknown): void;
}

/**
 * The directory of the service's units, which the supervisor keeps, as a worker asks it. What is asked in one turn goes in as
 * few messages as it fits in: a round trip for each of 10,000 units would take seconds.
 */
export class SupervisorDirectory implements Directory {
  readonly #link: DirectoryLink;
  /** By kind and by the process that offers the units. */
  readonly #questions = new Map<string, { kind: string; from: number | undefined; all: Question[] }>();
  readonly #disowned = new Map<string, Ownership[]>();
  #isCollecting = false;

  constructor(link: DirectoryLink) {
    this.#link = link;
  }

  async own(kind: string, ids: readonly string[], from?: Peer): Promise<readonly OwnResult[]> {
    this.#sendLater();
    const key = `${from?.pid ?? ""}\0${kind}`;
    const asked = this.#questions.get(key) ?? { kind, from: from?.pid, all: [] };
    this.#questions.set(key, asked);
    return Promise.all(
      ids.map(
        async (id) => new Promise<OwnResult>((resolve, reject) => asked.all.push({ id, resolve, reject })),
      ),
    );
  }

  disown(kind: string, units: readonly Ownership[]): void {
    this.#sendLater();
    const all = this.#disowned.get(kind) ?? [];
    this.#disowned.set(kind, all);
    for (const unit of units) all.push(unit);
  }

  async where(kind: string, id: string): Promise<UnitOwner | undefined> {
    this.#send();
    const [owner] = await this.#link.request((request) => ({ type: "where", request, kind, id }));
    return typeof owner === "object" ? owner : undefined;
  }

  #sendLater(): void {
    if (this.#isCollecting) return;
    this.#isCollecting = true;
    queueMicrotask(() => this.#send());
  }

  #send(): void {
    this.#isCollecting = false;
    for (const [kind, units] of this.#disowned) {
      for (const some of this.#inBatches(units)) {
        const [ids, fences] = [some.map(({ id }) => id), some.map(({ fence }) => fence)];
        this.#link.send({ type: "disown", kind, ids, fences });
      }
    }
    this.#disowned.clear();
    for (const { kind, from, all } of this.#questions.values())
      for (const some of this.#inBatches(all)) void this.#ask(kind, from, some);
    this.#questions.clear();
  }

  async #ask(kind: string, from: number | undefined, questions: readonly Question[]): Promise<void> {
    const ids = questions.map(({ id }) => id);
    const sender = from === undefined ? {} : { from };
    try {
      const results = await this.#link.request((request) => ({ type: "own", request, kind, ids, ...sender }));
      for (const [n, question] of questions.entries()) {
        const result = results[n]!;
        question.resolve(typeof result === "number" ? { fence: result } : { owner: result });
      }
    } catch (error) {
      for (const question of questions) question.reject(error);
    }
  }

  /** As many units as fit in one message, and their answers in another. */
  #inBatches<T extends { readonly id: string }>(units: readonly T[]): T[][] {
    const limit = filledSize(this.#link.maxSize) - HEAD;
    return batches(units, [limit], ({ id }) => [
      Math.max(Buffer.byteLength(JSON.stringify(id)) + FENCE, ANSWER),
    ]);
  }
}

/** Bytes of the other fields of a message, with a kind of 256 characters. */
const HEAD = 2_048;

/** Bytes of a fence, and of the answer for a unit that another worker owns, at most. */
const FENCE = 20;
const ANSWER = 64;
