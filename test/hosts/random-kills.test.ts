import { statSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { expect, onTestFinished, test, vi } from "vitest";
import { migrate } from "../../dist/postgres/index.js";
import { Actor } from "../support/actor.js";
import { Dice } from "../support/dice.js";
import { Postgres } from "../support/postgres.js";
import { overlaps, readLog, smallerFences, type Entry } from "../support/run-log.js";
import { temporaryDirectory } from "../support/service.js";

/** By hand, a seed that has failed again: `HANDOVER_ROUNDS=100 HANDOVER_SEED=7 npm run test:host-kills` */
const ROUNDS = Number(process.env["HANDOVER_ROUNDS"] ?? 4);
const SEED = Number(process.env["HANDOVER_SEED"] ?? Date.now() % 1_000_000);

const SERVICE = "kills";
const UNITS = Array.from({ length: 300 }, (_, n) => `r${n}`);
const VICTIMS = ["owner", "taker", "engine"] as const;

/** What the database has seen of a unit's parcel. */
interface Parcel {
  readonly token: string;
  readonly offered_by: string;
  readonly removed_by: string | null;
  readonly deaths: number | null;
}

/** The database itself records each parcel, in the transaction that offers or removes it. */
const RECORD = `
  create table parcel (seq bigint primary key, token text, offered_by text, removed_by text, deaths int);
  create function record() returns trigger language plpgsql as $$ begin
    if tg_op = 'INSERT' then
      insert into parcel values (new.seq, convert_from(new.body, 'utf8')::jsonb ->> 'token', current_setting('application_name'));
    else
      update parcel set removed_by = current_setting('application_name'), deaths = old.deaths where seq = old.seq;
    end if;
    return null;
  end $$;
  create trigger record after insert or delete on handover.offer for each row execute function record();`;

const now = (): number => Number(process.hrtime.bigint() / 1_000n);

/** Three hosts of a service, with a log of what runs on them. */
class Hosts {
  readonly server: Postgres;
  readonly dice: Dice;
  readonly #log = join(temporaryDirectory(), "log");
  readonly killed = new Map<number, number>();
  all: Actor[] = [];

  constructor(server: Postgres, dice: Dice) {
    this.server = server;
    this.dice = dice;
  }

  async fill(): Promise<void> {
    while (this.all.length < 3) this.all.push(await this.#start());
  }

  async #start(): Promise<Actor> {
    const database = { service: SERVICE, url: this.server.url, lease: 6_000 };
    const settings = { database, log: this.#log, recovers: true, exitTimeout: 1_000, drainTimeout: 20_000 };
    return Actor.start("on-several-hosts.js", settings);
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
    await this.server.query(
      "update handover.seat set seen = now() - lease * interval '1 ms' where (about ->> 'pid')::int = any ($1)",
      [[...this.killed.keys()]],
    );
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
function lost(parcels: readonly Parcel[], log: readonly Entry[], hosts: Hosts): Parcel[] {
  const seen = new Set(log.filter(({ event }) => event !== "abort").map(({ token }) => token));
  return parcels.filter(({ token, offered_by, removed_by, deaths }) => {
    if (seen.has(token) || Number(deaths) >= 3) return false;
    return removed_by !== offered_by || !hosts.killed.has(Number(offered_by));
  });
}

test(
  `in ${ROUNDS} rounds of kills no unit runs twice, no state on offer is lost, and fences grow (seed ${SEED})`,
  async () => {
    const server = await Postgres.start(["max_connections = 200"]);
    onTestFinished(async () => server.remove());
    await migrate({ url: server.url });
    await server.query(RECORD);
    const hosts = new Hosts(server, new Dice(SEED));
    await hosts.fill();
    await hosts.settle();
    for (let n = 0; n < ROUNDS; n++) await round(hosts);
    // What the dead have offered is still taken.
    await hosts.expire();
    await expect.poll(async () => server.query("select from handover.offer")).toHaveLength(0);
    await hosts.settle();
    const { log } = hosts;
    const parcels = (await server.query("select * from parcel")) as unknown as Parcel[];
    const runs = log.filter(({ event }) => event === "run").length;
    console.log(
      `${ROUNDS} rounds, seed ${SEED}: ${hosts.killed.size} hosts killed; ${runs} runs, ${parcels.length} parcels`,
    );
    expect(overlaps(log, hosts.killed)).toEqual([]);
    expect(smallerFences(log)).toEqual([]);
    expect(lost(parcels, log, hosts)).toEqual([]);
  },
  120_000 + ROUNDS * 30_000,
);
