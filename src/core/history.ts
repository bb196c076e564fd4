import type { DrainSummary, UpgradeRecord, UpgradeOutcome } from "../events.js";
import type { HandoverError } from "../errors.js";
import type { ProcessState as Memory } from "../state/process-state.js";
import type { Slot } from "../state/slots/slots.js";
import { TIMED_OUT, withTimeout } from "../util/timeout.js";
import { add, noTotals, observe, sumOf, type Totals } from "../metrics/totals.js";

/** The journal as it passes from generation to generation. */
interface Snapshot {
  records: UpgradeRecord[];
  /** Of each process, so that what is merged twice is counted once. */
  totals: Record<string, Totals>;
  /** The sum of those of generations that are long gone. */
  past: { upTo: number; totals: Totals };
}

/** What has happened in the service: its last upgrades, and the totals. It outlives each single process. */
export class UpgradeHistory {
  /** A copy of the predecessor's has arrived, if there is one that answers soon. */
  readonly restored: Promise<void>;
  readonly #generation: number;
  readonly #slot: Slot<Snapshot>;
  /** Told of each upgrade that is over, in the process that serves on. */
  readonly #recorded: (record: UpgradeRecord) => void;
  readonly #own = noTotals();
  /** Of other processes. */
  readonly #others = new Map<string, Totals>();
  #past: Snapshot["past"] = { upTo: -1, totals: noTotals() };
  #records: UpgradeRecord[] = [];
  #isKept = false;
  #isCounted = false;

  constructor(generation: number, memory: Memory, recorded: (record: UpgradeRecord) => void) {
    this.#generation = generation;
    this.#recorded = recorded;
    this.#slot = memory.slot<Snapshot>("handover:journal", { version: 1 });
    this.#slot.subscribe(({ data }) => this.#merge(data));
    void this.#slot.initiate(() => this.#snapshot());
    this.restored = this.#warmUp();
  }

  async #warmUp(): Promise<void> {
    try {
      const copy = await withTimeout(PATIENCE, this.#slot.peek());
      if (copy !== undefined && copy !== TIMED_OUT) this.#merge(copy);
    } catch {
      // It is of a version that this one does not know.
    }
  }

  /** The last upgrades, the newest last. */
  get records(): readonly UpgradeRecord[] {
    return this.#records;
  }

  get totals(): Totals {
    return [...this.#others.values(), this.#past.totals].reduce((sum, one) => add(sum, one), this.#own);
  }

  /** An upgrade begins. */
  begin(): UpgradeRecord {
    const { length } = this.#records;
    const record: UpgradeRecord = {
      // Two of one millisecond are two.
      at: Math.max(Date.now(), (this.#records[length - 1]?.at ?? 0) + 1),
      from: this.#generation,
      to: this.#generation + 1,
      outcome: "running",
    };
    this.#records = [...this.#records, record].slice(-KEPT);
    return record;
  }

  /** It did not succeed: this process serves on. */
  fail(record: UpgradeRecord, outcome: "failed" | "rolledBack", error: HandoverError): void {
    Object.assign(record, { outcome, code: error.code, reason: error.message });
    this.#count(record);
  }

  /** This process cannot be replaced by its predecessor any more. */
  confirm(): void {
    this.#isKept = true;
    this.#completeOwn();
  }

  /** This process ends: hands on what became of its `connections` and units. */
  async end(connections: number, { moved, destroyed, units }: DrainSummary): Promise<void> {
    const drained = Math.max(0, connections - moved - destroyed);
    this.#own.connections = add(this.#own.connections, { moved, drained, destroyed });
    for (const report of Object.values(units)) {
      const { failed, stopped } = report;
      this.#own.units = add(this.#own.units, { moved: report.moved, failed, stopped });
    }
    await this.#slot.initiate(this.#snapshot());
  }

  #snapshot(): Snapshot {
    this.#forget(this.#generation - REMEMBERED);
    const totals = Object.fromEntries([...this.#others, [this.#key, this.#own]]);
    return { records: [...this.#records], totals, past: this.#past };
  }

  get #key(): string {
    return `${this.#generation}.${process.pid}`;
  }

  /** Adds up what the generations before `first` have told: nothing more comes from them. */
  #forget(first: number): void {
    for (const [key, totals] of this.#others) {
      if (generationOf(key) >= first) continue;
      this.#past = { upTo: first - 1, totals: add(this.#past.totals, totals) };
      this.#others.delete(key);
    }
  }

  /** Each process only ever adds to its own, so that what is larger is newer. */
  #merge({ records, totals, past }: Snapshot): void {
    if (past.upTo > this.#past.upTo) this.#past = past;
    for (const [key, theirs] of Object.entries(totals)) {
      const ours = this.#others.get(key);
      if (key !== this.#key && (ours === undefined || sumOf(theirs) > sumOf(ours)))
        this.#others.set(key, theirs);
    }
    for (const key of this.#others.keys()) if (generationOf(key) <= this.#past.upTo) this.#others.delete(key);
    const byTime = new Map([...this.#records, ...records].map((record) => [record.at, record]));
    // Of an upgrade that is over nobody knows more than this process does.
    for (const mine of this.#records) if (isOver(mine)) byTime.set(mine.at, mine);
    this.#records = [...byTime.values()].toSorted((a, b) => a.at - b.at).slice(-KEPT);
    this.#completeOwn();
  }

  /** The upgrade to this process is known here from the predecessor only. */
  #completeOwn(): void {
    if (!this.#isKept || this.#isCounted) return;
    const record = this.#records.find(({ pid }) => pid === process.pid);
    if (record?.timings === undefined) return;
    this.#isCounted = true;
    record.outcome = "confirmed";
    this.#count(record);
  }

  #count(record: UpgradeRecord): void {
    const { outcome, timings } = record;
    this.#own.upgrades[outcome as UpgradeOutcome]++;
    if (timings !== undefined) {
      for (const phase of ["spawn", "ready", "commit"] as const) {
        observe(this.#own.durations[phase], timings[phase] / 1_000);
      }
    }
    this.#recorded(record);
  }
}

function isOver({ outcome }: UpgradeRecord): boolean {
  return outcome !== "running" && outcome !== "probation";
}

function generationOf(key: string): number {
  return Number(key.split(".")[0]);
}

/** How long, in ms, the predecessor's copy is waited for. Without it the totals begin at 0, until the slot arrives. */
const PATIENCE = 1_000;

/** Records. */
const KEPT = 10;

/** Generations that may still drain, and have something to tell. */
const REMEMBERED = 32;
