import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import type { Status } from "../../dist/control/protocol.js";
import { migrate } from "../../dist/postgres/index.js";
import { Dice } from "../support/dice.js";
import { Postgres } from "../support/postgres.js";
import { overlaps, readLog, smallerFences, type Entry } from "../support/run-log.js";
import { temporaryDirectory } from "../support/service.js";
import { Supervised } from "../support/supervised.js";

/** By hand, a seed that has failed again: `HANDOVER_ROUNDS=100 HANDOVER_SEED=7 npm run test:host-kills` */
const ROUNDS = Number(process.env["HANDOVER_ROUNDS"] ?? 1);
const SEED = Number(process.env["HANDOVER_SEED"] ?? Date.now() % 1_000_000);

const SERVICE = "worker kills";
const UNITS = Array.from({ length: 60 }, (_, n) => `r${n}`);
const WORKERS = 3;
const VICTIMS = ["worker", "supervisor", "engine"] as const;
/** Most is to be lost where most moves. */
const DOINGS = ["upgrade", "upgrade", "upgrade", "scale", "scale", "start", "nothing"] as const;

const now = (): number => Number(process.hrtime.bigint() / 1_000n);

/** A host with several workers, and a log of what runs in them. */
class Workers {
  readonly server: Postgres;
  readonly dice: Dice;
  readonly log = join(temporaryDirectory(), "log");
  readonly killed = new Map<number, number>();
  #host: Supervised | undefined;
  readonly #all: Supervised[] = [];

  constructor(server: Postgres, dice: Dice) {
    this.server = server;
    this.dice = dice;
  }

  get host(): Supervised {
    return (this.#host ??= this.begin());
  }

  begin(): Supervised {
    const database = { service: SERVICE, url: this.server.url, lease: 6_000 };
    const times = { exitTimeout: 1_000, drainTimeout: 10_000, unitTimeout: 3_000 };
    const settings = { database, log: this.log, recovers: true, ...times };
    const host = Supervised.begin("on-several-hosts.js", { settings, workers: WORKERS, probation: 1_000 });
    this.#all.push(host);
    return (this.#host = host);
  }

  /** The processes whose lease has ended: they have lost the states of their units. */
  get leaseless(): Set<number> {
    const lines = this.#all.flatMap(({ service }) => service.lines);
    return new Set(lines.filter(({ event }) => event === "failed").map(({ pid }) => pid));
  }

  kill(pid: number): void {
    // What another process runs after its death is not before this.
    const at = now();
    try {
      process.kill(pid, "SIGKILL");
      this.killed.set(pid, at);
    } catch {
      // It has just ended.
    }
  }

  /** Begins something in which processes are killed. Resolves when it is over. */
  async do(what: (typeof DOINGS)[number]): Promise<unknown> {
    switch (what) {
      case "start":
        process.kill(this.host.pid, "SIGTERM");
        await this.host.service.ended();
        return this.begin();
      case "upgrade":
        return this.host.upgrade();
      case "scale":
        return this.host.scale(WORKERS - 1);
      default:
        return undefined;
    }
  }

  /** Waits until the host has all its workers, with seats; starts it if it has ended. */
  async settle(): Promise<Status> {
    for (;;) {
      const { host } = this;
      const hasExited = host.service.exited.then(() => undefined);
      const settled = host.eventually(isSettled).catch((error: Error) => error);
      const status = await Promise.race([settled, hasExited]);
      if (status instanceof Error && host.service.alive().includes(host.pid)) throw status;
      if (status === undefined || status instanceof Error) {
        await host.service.ended();
        this.begin();
      } else if (status.workers!.length === WORKERS) return status;
      else await host.scale(WORKERS).catch(() => {});
    }
  }

  /** Starts the units that no worker runs, until all run. */
  async fill(): Promise<void> {
    const runs = async (): Promise<boolean> => {
      const pids = (await this.settle()).workers!.map(({ pid }) => pid!);
      const answers = (await this.host.tell(this.dice.pick(pids), "startAll", UNITS)) as string[];
      const isAnswered = answers.every((one) => one === "here" || one === "ERR_ELSEWHERE");
      return isAnswered && (await this.sizes(pids)).reduce((a, b) => a + b) === UNITS.length;
    };
    // One that was killed may not be known to be dead.
    await vi.waitUntil(async () => runs().catch(() => false), { timeout: 110_000 });
  }

  async sizes(pids: readonly number[]): Promise<number[]> {
    return Promise.all(pids.map(async (pid) => Number(await this.host.tell(pid, "size"))));
  }
}

function isSettled({ state, workers = [] }: Status): boolean {
  return state === "ready" && workers.every((one) => one.state === "ready" && one.hosts?.lease === "held");
}

/** Runs of units whose states are lost: the process before had ended them, and was neither killed nor without a lease. */
function lost(log: readonly Entry[], { killed, leaseless }: Workers): Entry[][] {
  const found: Entry[][] = [];
  const last = new Map<string, { run: Entry; isStopped: boolean }>();
  for (const entry of log.toSorted((a, b) => a.at - b.at)) {
    const former = last.get(entry.id);
    if (entry.event === "stop" && former !== undefined) former.isStopped = true;
    if (entry.event !== "run") continue;
    last.set(entry.id, { run: entry, isStopped: false });
    if (former === undefined || former.isStopped) continue;
    const { pid } = former.run;
    const isGiven = entry.token?.startsWith(`${pid}-`) === true;
    if (!isGiven && !killed.has(pid) && !leaseless.has(pid)) found.push([former.run, entry]);
  }
  return found;
}

const SEATS = `select z.seat, (z.about ->> 'pid')::int as pid, z.draining, count(u.id)::int as units
  from handover.seat z left join handover.unit u on u.seat = z.seat
  where z.seen > now() - z.lease * interval '1 ms' group by z.seat`;

/** That the engine and the status say what is so. */
async function look(workers: Workers): Promise<void> {
  await workers.fill();
  const { host, server } = workers;
  const all = await host.workers();
  const sizes = await workers.sizes(all.map(({ pid }) => pid!));
  const rows = all.map(({ pid, hosts }, n) => ({ seat: hosts!.seat, pid, draining: false, units: sizes[n] }));
  const states = all.map(({ pid, hosts }) => ({ pid, seat: hosts!.seat, peers: WORKERS - 1 }));
  const expected = [...rows, ...states];
  const seen = async (): Promise<unknown[]> => [
    ...(await server.query(SEATS)),
    ...(await host.workers()).map(({ pid, hosts }) => ({ pid, seat: hosts?.seat, peers: hosts?.peers })),
  ];
  // Those that have died are known until their leases end.
  await expect.poll(seen).toHaveLength(expected.length);
  await expect.poll(seen).toEqual(expect.arrayContaining(expected));
}

/** The workers are upgraded, scaled or started, and meanwhile some processes are killed. */
async function round(workers: Workers): Promise<void> {
  const { dice, server } = workers;
  const doing = dice.pick(DOINGS);
  const victims = new Set([dice.pick(VICTIMS), ...VICTIMS.filter(() => dice.percent(25))]);
  const done = workers.do(doing).catch(() => {});
  for (const victim of victims) {
    for (let looks = dice.below(12); looks > 0; looks--) await workers.host.status().catch(() => {});
    if (victim === "engine") await server.kill();
    else if (victim === "supervisor") workers.kill(workers.host.pid);
    else for (const pid of workers.host.service.children().filter(() => dice.percent(40))) workers.kill(pid);
  }
  if (victims.has("engine")) await server.run();
  await done;
}

test(
  `whichever processes are killed, no unit of several workers runs twice, each runs, and the seats are right (rounds: ${ROUNDS}, seed ${SEED})`,
  async () => {
    const server = await Postgres.start(["max_connections = 200"]);
    onTestFinished(async () => server.remove());
    await migrate({ url: server.url });
    const workers = new Workers(server, new Dice(SEED));
    await look(workers);
    for (let n = 0; n < ROUNDS; n++) {
      await round(workers);
      await look(workers);
      const log = readLog(workers.log);
      expect(overlaps(log, workers.killed)).toEqual([]);
      expect(smallerFences(log)).toEqual([]);
      expect(lost(log, workers)).toEqual([]);
    }
    console.log(`${ROUNDS} rounds, seed ${SEED}: ${workers.killed.size} workers and supervisors killed`);
    await expect.poll(async () => server.query("select from handover.offer")).toEqual([]);
  },
  120_000 + ROUNDS * 30_000,
);
