import type { HandoverError } from "../errors.js";
import type { DrainSummary, UpgradeOutcome, UpgradeRecord } from "../events.js";
import { add, endsOf, noTotals, observePhases, sumOf, type Totals } from "../metrics/totals.js";
import type { ProcessState } from "../state/process-state.js";
import type { Slot } from "../state/slots/slots.js";
import { shorten } from "../util/shorten.js";

/** The history as it moves from generation to generation. */
interface Snapshot {
  records: UpgradeRecord[];
  /** By process, so that totals that arrive twice are counted once. */
  totals: Record<string, Totals>;
  /** The sum of the totals of older generations, up to this one. */
  past: { upTo: number; totals: Totals };
}

/** The history of the service over all its generations: its last upgrades, and the totals. */
export class UpgradeHistory {
  readonly #generation: number;
  readonly #pid: number;
  readonly #state: ProcessState;
  #opened: Slot<Snapshot> | undefined;
  /** Called for each upgrade that is over, in the process that serves after it. */
  readonly #onRecorded: (record: UpgradeRecord) => void;
  readonly #own = noTotals();
  /** The totals of other processes. */
  readonly #others = new Map<string, Totals>();
  #past: Snapshot["past"] = { upTo: -1, totals: noTotals() };
  #records: UpgradeRecord[] = [];
  #isConfirmed = false;
  #isCounted = false;

  constructor(
    generation: number,
    pid: number,
    state: ProcessState,
    onRecorded: (record: UpgradeRecord) => void,
  ) {
    this.#generation = generation;
    this.#pid = pid;
    this.#onRecorded = onRecorded;
    this.#state = state;
    if (generation > 0) this.open();
  }

  /** Takes the history of the predecessor, and has it ready for a successor. */
  open(): void {
    if (this.#opened !== undefined) return;
    const slot = this.#state.ownSlot<Snapshot>("handover:journal", { version: 1 });
    this.#opened = slot;
    slot.subscribe(({ data }) => this.#merge(data));
    void slot.initiate(() => this.#snapshot());
    void this.#copyPredecessor(slot);
  }

  /** Copies the predecessor's history for the time before it moves. Figures are incomplete until the copy arrives. */
  async #copyPredecessor(slot: Slot<Snapshot>): Promise<void> {
    try {
      const copy = await slot.peek();
      if (copy !== undefined) this.#merge(copy);
    } catch {
      // The predecessor's version is unknown here: the history begins with this process.
    }
  }

  /** The last upgrades, the newest last. */
  get records(): readonly UpgradeRecord[] {
    return this.#records;
  }

  get totals(): Totals {
    return [...this.#others.values(), this.#past.totals].reduce((sum, one) => add(sum, one), this.#own);
  }

  /** Records that an upgrade begins. */
  begin(): UpgradeRecord {
    const { length } = this.#records;
    const record: UpgradeRecord = {
      // Two upgrades may start in the same millisecond; keep their timestamps distinct.
      at: Math.max(Date.now(), (this.#records[length - 1]?.at ?? 0) + 1),
      from: this.#generation,
      to: this.#generation + 1,
      outcome: "running",
    };
    this.#records = [...this.#records, record].slice(-MAX_RECORDS);
    return record;
  }

  /** Records that an upgrade did not succeed: this process keeps serving. */
  fail(record: UpgradeRecord, outcome: "failed" | "rolledBack", error: HandoverError): void {
    Object.assign(record, { outcome, code: error.code, reason: shorten(error.message) });
    this.#count(record);
  }

  /** This process can no longer be rolled back. */
  confirm(): void {
    this.#isConfirmed = true;
    this.#completeOwn();
  }

  /** This process ends: counts how its `connections` and units ended, and moves the history to the successor. */
  async end(connections: number, summary: DrainSummary): Promise<void> {
    const ends = endsOf(connections, summary);
    this.#own.connections = add(this.#own.connections, ends.connections);
    this.#own.units = add(this.#own.units, ends.units);
    this.open();
    await this.#opened!.initiate(this.#snapshot());
  }

  #snapshot(): Snapshot {
    this.#addUpBefore(this.#generation - MAX_DRAINING_GENERATIONS);
    const totals = Object.fromEntries([...this.#others, [this.#key, this.#own]]);
    return { records: [...this.#records], totals, past: this.#past };
  }

  get #key(): string {
    return `${this.#generation}.${this.#pid}`;
  }

  /** Adds up the totals of the generations before `first`, which send no more. */
  #addUpBefore(first: number): void {
    for (const [key, totals] of this.#others) {
      if (generationOf(key) >= first) continue;
      this.#past = { upTo: first - 1, totals: add(this.#past.totals, totals) };
      this.#others.delete(key);
    }
  }

  /** Each process only ever adds to its own totals, so the larger ones are newer. */
  #merge({ records, totals, past }: Snapshot): void {
    if (past.upTo > this.#past.upTo) this.#past = past;
    for (const [key, theirs] of Object.entries(totals)) {
      const ours = this.#others.get(key);
      if (key !== this.#key && (ours === undefined || sumOf(theirs) > sumOf(ours)))
        this.#others.set(key, theirs);
    }
    for (const key of this.#others.keys()) if (generationOf(key) <= this.#past.upTo) this.#others.delete(key);
    const byTime = new Map([...this.#records, ...records].map((record) => [record.at, record]));
    // The process in which an upgrade ended knows its outcome; an older copy must not overwrite it. The record of an upgrade that
    // began here is kept up to date: after a rollback its copy comes back.
    for (const mine of this.#records)
      if (isOver(mine) || mine.from === this.#generation) byTime.set(mine.at, mine);
    this.#records = [...byTime.values()].toSorted((a, b) => a.at - b.at).slice(-MAX_RECORDS);
    this.#completeOwn();
  }

  /** Counts the upgrade that started this process, once its record has arrived from the predecessor. */
  #completeOwn(): void {
    if (!this.#isConfirmed || this.#isCounted) return;
    const record = this.#records.find(({ pid }) => pid === this.#pid);
    if (record?.timings === undefined) return;
    this.#isCounted = true;
    record.outcome = "confirmed";
    this.#count(record);
  }

  #count(record: UpgradeRecord): void {
    const { outcome, timings } = record;
    this.#own.upgrades[outcome as UpgradeOutcome]++;
    if (timings !== undefined) observePhases(this.#own.durations, timings);
    this.#onRecorded(record);
  }
}

function isOver({ outcome }: UpgradeRecord): boolean {
  return outcome !== "running" && outcome !== "probation";
}

function generationOf(key: string): number {
  return Number(key.split(".")[0]);
}

/** Records that are kept. */
const MAX_RECORDS = 10;

/** Generations that may still drain and add to their totals. */
const MAX_DRAINING_GENERATIONS = 32;
