import { filledSize, type Message, type WorkerName } from "../channel/messages.js";
import type { UnitOwner } from "../errors.js";
import type { Directory, Ownership, OwnResult } from "../exchange/directory.js";
import { answer, DirectoryBatch, type Question } from "../exchange/directory-batch.js";
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

/**
 * The directory of the service's units, which the supervisor keeps, as a worker asks it. What is asked in one turn goes in as
 * few messages as it fits in.
 */
export class SupervisorDirectory implements Directory {
  readonly #link: DirectoryLink;
  /** With the PIDs of those that offer units. */
  readonly #batch = new DirectoryBatch<number>(() => this.#send());

  constructor(link: DirectoryLink) {
    this.#link = link;
  }

  async own(kind: string, ids: readonly string[], from?: Peer): Promise<readonly OwnResult[]> {
    return this.#batch.own(kind, ids, from?.pid);
  }

  disown(kind: string, units: readonly Ownership[]): void {
    this.#batch.disown(kind, units);
  }

  async where(kind: string, id: string): Promise<UnitOwner | undefined> {
    this.#send();
    const [owner] = await this.#link.request((request) => ({ type: "where", request, kind, id }));
    return typeof owner === "object" ? owner : undefined;
  }

  #send(): void {
    const { disowned, questions } = this.#batch.take();
    for (const [kind, units] of disowned) {
      for (const some of this.#inBatches(units)) {
        const [ids, fences] = [some.map(({ id }) => id), some.map(({ fence }) => fence)];
        this.#link.send({ type: "disown", kind, ids, fences });
      }
    }
    for (const { kind, from, all } of questions)
      for (const some of this.#inBatches(all)) void this.#ask(kind, from, some);
  }

  async #ask(kind: string, from: number | undefined, questions: readonly Question[]): Promise<void> {
    const ids = questions.map(({ id }) => id);
    const sender = from === undefined ? {} : { from };
    try {
      const results = await this.#link.request((request) => ({ type: "own", request, kind, ids, ...sender }));
      answer(questions, results);
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
