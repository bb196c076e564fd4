/** How a client uses its connection. */
export type Kind = "fresh" | "keep-alive" | "slow" | "streaming";

/** The requests of one kind of client. Latencies are in ms. */
interface KindSummary {
  requests: number;
  failed: number;
  /** Connections that ended although the client wanted to keep them. */
  closed: number;
  p50: number;
  p99: number;
}

export interface Summary {
  requests: number;
  failed: number;
  kinds: Record<Kind, KindSummary>;
  failures: { kind: Kind; code: string; count: number }[];
  /** in ms, from the request to the commit */
  upgrades: { count: number; p50: number; max: number };
}

/** Counts the requests and connections of the clients. */
export class Tally {
  readonly #kinds: Record<Kind, Counts> = {
    fresh: new Counts(),
    "keep-alive": new Counts(),
    slow: new Counts(),
    streaming: new Counts(),
  };
  readonly #upgrades: number[] = [];
  #isClosed = false;
  #onRequest: () => void = () => {};

  get requests(): number {
    return this.#sum((one) => one.latencies.length);
  }

  get failed(): number {
    return this.#sum((one) => one.failed);
  }

  /** @param fault the code of a failure */
  addRequest(kind: Kind, ms: number, fault: string | undefined): void {
    if (this.#isClosed) return;
    this.#kinds[kind].add(ms, fault);
    this.#onRequest();
  }

  addClosed(kind: Kind): void {
    if (!this.#isClosed) this.#kinds[kind].closed++;
  }

  addUpgrade(ms: number): void {
    this.#upgrades.push(ms);
  }

  /** From now on connections end because the load ends, which is not the fault of an upgrade. */
  close(): void {
    this.#isClosed = true;
  }

  /** Resolves when every kind of client has had an answer: before that an upgrade has nothing to break. */
  async untilBusy(signal: AbortSignal): Promise<void> {
    while (!signal.aborted && Object.values(this.#kinds).some((one) => one.latencies.length === 0)) {
      await new Promise<void>((resolve) => (this.#onRequest = resolve));
    }
  }

  summary(): Summary {
    const kinds = Object.entries(this.#kinds) as [Kind, Counts][];
    return {
      requests: this.requests,
      failed: this.failed,
      kinds: Object.fromEntries(kinds.map(([kind, one]) => [kind, one.summary()])) as Summary["kinds"],
      failures: kinds.flatMap(([kind, { faults }]) =>
        [...faults].map(([code, n]) => ({ kind, code, count: n })),
      ),
      upgrades: {
        count: this.#upgrades.length,
        p50: percentile(this.#upgrades, 50),
        max: percentile(this.#upgrades, 100),
      },
    };
  }

  #sum(of: (one: Counts) => number): number {
    return Object.values(this.#kinds).reduce((sum, one) => sum + of(one), 0);
  }
}

class Counts {
  readonly latencies: number[] = [];
  readonly faults = new Map<string, number>();
  failed = 0;
  closed = 0;

  add(ms: number, fault: string | undefined): void {
    this.latencies.push(ms);
    if (fault === undefined) return;
    this.failed++;
    this.faults.set(fault, (this.faults.get(fault) ?? 0) + 1);
  }

  summary(): KindSummary {
    const { latencies, failed, closed } = this;
    const [p50, p99] = [percentile(latencies, 50), percentile(latencies, 99)];
    return { requests: latencies.length, failed, closed, p50, p99 };
  }
}

/** 0 of nothing. */
function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const value = sorted[Math.max(0, Math.ceil((sorted.length * percent) / 100) - 1)] ?? 0;
  return Math.round(value * 10) / 10;
}
