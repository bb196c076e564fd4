import { statSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { expect, onTestFinished, test, vi } from "vitest";
import { Actor } from "../support/actor.js";
import { Dice } from "../support/dice.js";
import { ENGINES, startEngine, type EngineName, type EngineServer } from "../support/engines.js";
import type { RecordedParcel } from "../support/parcel-record.js";
import { overlaps, readLog, smallerFences, type Entry } from "../support/run-log.js";
import { temporaryDirectory } from "../support/service.js";

/** By hand, a seed that has failed again: `HANDOVER_ROUNDS=100 HANDOVER_SEED=7 npm run test:host-kills` */
const ROUNDS: Record<EngineName, number> = { postgres: 4, etcd: 3 };
const roundsOver = (engine: EngineName): number => Number(process.env["HANDOVER_ROUNDS"] ?? ROUNDS[engine]);
const SEED = Number(process.env["HANDOVER_SEED"] ?? Date.now() % 1_000_000);

const SERVICE = "kills";
const UNITS = Array.from({ length: 300 }, (_, n) => `r${n}`);
const VICTIMS = ["owner", "taker", "engine"] as const;

const now = (): number => Number(process.hrtime.bigint() / 1_000n);

/** Three hosts of a service, with a log of what runs on them. */
class Hosts {
  readonly server: EngineServer;
  readonly dice: Dice;
  readonly #log = join(temporaryDirectory(), "log");
  readonly killed = new Map<number, number>();
  all: Actor[] = [];

  constructor(server: EngineServer, dice: Dice) {
    this.server = server;
    this.dice = dice;
  }

  async fill(): Promise<void> {
    while (this.all.length < 3) this.all.push(await this.#start());
  }

  async #start(): Promise<Actor> {
    const database = this.server.database({ service: SERVICE, lease: 6_000 });
    const times = { exitTimeout: 1_000, drainTimeout: 20_000, unitTimeout: 3_000 };
    return Actor.start("on-several-hosts.js", { database, log: this.#log, recovers: true, ...times });
  }

  kill(host: Actor): void {
    host.kill();
    this.killed.set(host.pid, now());
    this.all = this.all.filter((one) => one !== host);
  }

  /** Bytes. The move of a unit logs about 300. */
  get logged(): number {
    return statSync(this.#log).size;
  }

  get log(): Entry[] {
    return readLog(this.#log);
  }

  /** The processes that are known to be dead need not be waited for. */
  async expire(): Promise<void> {
    const seats = await this.server.seats(SERVICE);
    for (const { seat, pid } of seats) if (this.killed.has(pid)) await this.server.expire(seat);
  }

  /** The host with the most units. */
  async largest(): Promise<Actor> {
    const sizes = await Promise.all(this.all.map(async (host) => Number(await host.tell("size"))));
    return this.all[sizes.indexOf(Math.max(...sizes))]!;
  }

  /** Starts the units that no host runs, until all run. */
  async settle(): Promise<void> {
    const runs = async (): Promise<boolean> => {
      const answers = (await this.dice.pick(this.all).tell("startAll", UNITS)) as string[];
      const sizes = await Promise.all(this.all.map(async (host) => Number(await host.tell("size"))));
      const isAnswered = answers.every((answer) => answer === "here" || answer === "ERR_ELSEWHERE");
      return isAnswered && sizes.reduce((a, b) => a + b) === UNITS.length;
    };
    await vi.waitUntil(runs, { timeout: 110_000 });
  }
}

/** One host stops, and at random moments some processes are killed. */
async function round(hosts: Hosts): Promise<void> {
  const { dice, server } = hosts;
  const owner = dice.percent(70) ? await hosts.largest() : dice.pick(hosts.all);
  const taker = dice.pick(hosts.all.filter((host) => host !== owner));
  const first = dice.pick(VICTIMS);
  const victims = new Set([first, ...VICTIMS.filter(() => dice.percent(30))]);
  let moment = hosts.logged;
  const over = new AbortController();
  const left = owner.service.exited.then(() => over.abort());
  owner.kill("SIGTERM");
  for (const victim of victims) {
    moment += dice.percent(30) ? 0 : dice.below(30_000);
    while (!over.signal.aborted && hosts.logged < moment) await turn();
    for (let turns = dice.below(30); turns > 0; turns--) await turn();
    if (victim === "engine") await server.kill();
    else if (victim === "taker") hosts.kill(taker);
    else if (!over.signal.aborted) hosts.kill(owner);
  }
  if (victims.has("engine")) await server.run();
  if (!victims.has("owner")) await left;
  hosts.all = hosts.all.filter((host) => host !== owner);
  await hosts.fill();
  // At times the lease itself has to end.
  if (dice.percent(80)) await hosts.expire();
  await hosts.settle();
}

/** Parcels whose state neither ran nor was stopped. A host that has taken its own back may be killed with it. */
function lost(parcels: readonly RecordedParcel[], log: readonly Entry[], hosts: Hosts): RecordedParcel[] {
  const seen = new Set(log.filter(({ event }) => event !== "abort").map(({ token }) => token));
  return parcels.filter(
    ({ token, offeredBy, isBack, deaths }) =>
      !seen.has(token) && deaths < 3 && !(isBack && hosts.killed.has(offeredBy)),
  );
}

test.each(ENGINES.map((engine) => [roundsOver(engine), engine] as const))(
  `in %i rounds of kills over %s no unit runs twice, no state on offer is lost, and fences grow (seed ${SEED})`,
  async (rounds, engine) => {
    const server = await startEngine(engine);
    onTestFinished(async () => server.remove());
    const hosts = new Hosts(server, new Dice(SEED));
    await hosts.fill();
    await hosts.settle();
    await server.record();
    for (let n = 0; n < rounds; n++) await round(hosts);
    // What the dead have offered is still taken.
    await hosts.expire();
    const offers = async (): Promise<unknown[]> =>
      (await server.rows(SERVICE)).filter(({ what }) => what === "offer");
    await expect.poll(offers).toEqual([]);
    await hosts.settle();
    const { log } = hosts;
    const parcels = await server.parcels(SERVICE);
    const runs = log.filter(({ event }) => event === "run").length;
    console.log(
      `${rounds} rounds over ${engine}, seed ${SEED}: ${hosts.killed.size} hosts killed; ${runs} runs, ${parcels.length} parcels`,
    );
    expect(overlaps(log, hosts.killed)).toEqual([]);
    expect(smallerFences(log)).toEqual([]);
    expect(lost(parcels, log, hosts)).toEqual([]);
  },
  120_000 + roundsOver("postgres") * 30_000,
);
