import { Store } from "../../dist/etcd/store.js";
import { Sweep } from "../../dist/etcd/sweep.js";
import type { HostExchange } from "../../dist/exchange/hosts.js";
import { readDatabase } from "../../dist/postgres/database.js";
import { migrate } from "../../dist/postgres/migrate.js";
import { PostgresEngine } from "../../dist/postgres/postgres-engine.js";
import { Etcd } from "./etcd.js";
import { recordInPostgres, recordOfEtcd, recordOfPostgres, type RecordedParcel } from "./parcel-record.js";
import { Postgres } from "./postgres.js";

export type EngineName = "postgres" | "etcd";

/** Something that an engine keeps of a service. It has another revision after each write. */
export interface KeptRow {
  readonly what: "unit" | "role" | "seat" | "offer";
  readonly id: string;
  readonly revision: string;
}

export interface KeptSeat {
  readonly seat: string;
  readonly pid: number;
  readonly draining: boolean;
}

/** An engine that a test starts, with what the tests of several hosts ask of it. */
export interface EngineServer {
  readonly name: EngineName;
  readonly port: number;
  kill(): Promise<void>;
  run(): Promise<void>;
  remove(): Promise<void>;
  /** Of a process of the test; `at` is the port of a proxy before the engine. */
  exchange(options: EngineOptions): HostExchange;
  /** The setting `database` of a fixture. */
  database(options: EngineOptions): object;
  seats(service: string): Promise<KeptSeat[]>;
  /** In a fixed order. Of a seat the revision is empty: it changes with each beat. */
  rows(service: string): Promise<KeptRow[]>;
  /** Differs after each renewal of a seat's lease by its holder. */
  lastBeat(service: string, seat: string): Promise<string>;
  /** Lets it record the parcels of units that are offered from now on. */
  record(): Promise<void>;
  parcels(service: string): Promise<RecordedParcel[]>;
  /** Ends the lease of a seat. */
  expire(seat: string): Promise<void>;
  /** Lets so much time pass for the dead seats of a service that what they have left is removed. */
  forget(service: string): Promise<void>;
  /** Lets another process hold a seat. */
  occupy(service: string, seat: string): Promise<void>;
}

export interface EngineOptions {
  readonly service: string;
  readonly lease?: number;
  readonly at?: number;
}

export const ENGINES: readonly EngineName[] = ["postgres", "etcd"];

/** Starts an engine. It can be killed without losing what it has said that it has done. */
export async function startEngine(name: EngineName): Promise<EngineServer> {
  if (name === "etcd") return new EtcdServer(await Etcd.start());
  const server = await Postgres.start(["max_connections = 200"]);
  // A slow disk takes longer for a new schema than the first process would wait for it.
  await migrate({ url: server.url });
  return new PostgresServer(server);
}

abstract class Server<Program extends Postgres | Etcd> {
  protected readonly program: Program;

  constructor(program: Program) {
    this.program = program;
  }

  get port(): number {
    return this.program.port;
  }

  async kill(): Promise<void> {
    await this.program.kill();
  }

  async run(): Promise<void> {
    await this.program.run();
  }

  async remove(): Promise<void> {
    await this.program.remove();
  }
}

class PostgresServer extends Server<Postgres> implements EngineServer {
  readonly name = "postgres";

  exchange(options: EngineOptions): HostExchange {
    return this.program.exchange(this.#options(options));
  }

  database(options: EngineOptions): object {
    return this.#options(options);
  }

  async seats(service: string): Promise<KeptSeat[]> {
    const all = "select seat, about, draining from handover.seat where service = $1 order by seat";
    const rows = await this.program.query(all, [service]);
    return rows.map(({ seat, about, draining }) => ({
      seat: String(seat),
      pid: (about as { pid: number }).pid,
      draining: draining === true,
    }));
  }

  async rows(service: string): Promise<KeptRow[]> {
    const all = `select 'unit' as what, id, xmin::text as revision from handover.unit where service = $1
      union all select 'role', name, xmin::text from handover.role where service = $1
      union all select 'seat', seat::text, '' from handover.seat where service = $1
      union all select 'offer', id, xmin::text from handover.offer where service = $1 order by 1, 2`;
    return (await this.program.query(all, [service])) as unknown as KeptRow[];
  }

  async lastBeat(_: string, seat: string): Promise<string> {
    const seen = "select seen::text from handover.seat where seat = $1";
    return String((await this.program.query(seen, [seat]))[0]!["seen"]);
  }

  async record(): Promise<void> {
    await recordInPostgres(this.program);
  }

  async parcels(): Promise<RecordedParcel[]> {
    return recordOfPostgres(this.program);
  }

  async expire(seat: string): Promise<void> {
    await this.program.query(
      "update handover.seat set seen = now() - lease * interval '2 ms' where seat = $1",
      [seat],
    );
  }

  async forget(service: string): Promise<void> {
    const past = "seen = now() - lease * interval '20 ms'";
    await this.program.query(
      `update handover.seat set ${past} where service = $1 and seen < now() - lease * interval '1 ms'`,
      [service],
    );
    const settings = { service, lease: 60_000, listen: false, maxBody: 1, migrate: undefined };
    const engine = new PostgresEngine({ ...settings, ...readDatabase({ url: this.program.url }) });
    await engine.open(
      () => "",
      () => {},
    );
    await engine.sweep();
    await engine.close();
  }

  async occupy(_: string, seat: string): Promise<void> {
    await this.program.query("update handover.seat set holder = 'another' where seat = $1", [seat]);
  }

  #options({ at = this.port, ...options }: EngineOptions): object {
    return { migrate: true, url: `postgres://postgres@127.0.0.1:${at}/postgres`, ...options };
  }
}

class EtcdServer extends Server<Etcd> implements EngineServer {
  readonly name = "etcd";

  exchange(options: EngineOptions): HostExchange {
    return this.program.exchange(this.database(options));
  }

  database({ at = this.port, ...options }: EngineOptions): object {
    return { endpoints: [`http://127.0.0.1:${at}`], ...options };
  }

  async seats(service: string): Promise<KeptSeat[]> {
    const all = await this.program.entries(service, "seat/");
    return all.map(({ value }) => JSON.parse(value.slice(value.indexOf(" "))) as KeptSeat);
  }

  async rows(service: string): Promise<KeptRow[]> {
    const rows: KeptRow[] = [];
    for (const what of ["offer", "role", "seat", "unit"] as const)
      for (const { key, revision } of await this.program.entries(service, `${what}/`))
        rows.push({ what, id: key.slice(what.length + 1), revision: what === "seat" ? "" : revision });
    return rows;
  }

  async lastBeat(service: string, seat: string): Promise<string> {
    // Rung with each beat, and not when the seat is entered.
    const [bell] = await this.program.entries(service, `bell/seat/${seat}`);
    return bell?.revision ?? "";
  }

  /** It keeps what was. */
  async record(): Promise<void> {}

  async parcels(service: string): Promise<RecordedParcel[]> {
    return recordOfEtcd(this.program, service);
  }

  async expire(seat: string): Promise<void> {
    await this.program.expire(seat);
  }

  async forget(service: string): Promise<void> {
    const store = new Store(
      service,
      { endpoints: [new URL(this.program.url)], tls: {}, user: undefined },
      5_000,
    );
    store.open();
    // Those that are seen dead are forgotten at once.
    const sweep = new Sweep(store, 0);
    await sweep.run();
    await sweep.run();
    store.close();
  }

  async occupy(service: string, seat: string): Promise<void> {
    const value = JSON.stringify({ seat, generation: 0, pid: 1, topics: [] });
    await this.program.put(service, `seat/${seat}`, `another ${value}`);
  }
}
