import { once } from "node:events";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { Pool } from "pg";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import {
  migrate,
  migrationText,
  postgres,
  type ClientLike,
  type PoolLike,
} from "../../dist/postgres/index.js";
import { MIGRATIONS, SCHEMA_VERSION } from "../../dist/postgres/schema.js";
import { STATEMENTS } from "../../dist/postgres/statements.js";
import { deferred } from "../../dist/util/deferred.js";
import { joinHosts } from "../support/hosts.js";
import { offer, parcel, taken } from "../support/exchange-suite.js";
import { Postgres } from "../support/postgres.js";
import { handover, jsonLines } from "../support/program.js";

let server!: Postgres;
beforeAll(async () => {
  server = await Postgres.start();
});
afterAll(async () => server.remove());

const check = async (exchange: ReturnType<typeof postgres>): Promise<void> =>
  joinHosts(exchange).hosts.check();

/** The columns and indexes of the schema. */
async function describeSchema(): Promise<unknown[]> {
  const columns = await server.query(
    `select table_name, column_name, data_type, is_nullable, column_default from information_schema.columns
      where table_schema = 'handover' order by 1, ordinal_position`,
  );
  const indexes = "select indexdef from pg_indexes where schemaname = 'handover' order by 1";
  return [...columns, ...(await server.query(indexes))];
}

describe("the schema", () => {
  test("a database without the schema is refused, and the message says what to do", async () => {
    await server.query("drop schema if exists handover cascade");
    const use = postgres({ service: "schema", url: server.url });
    await expect(check(use)).rejects.toMatchObject({
      code: "ERR_EXCHANGE",
      message: expect.stringMatching(
        /has no schema of handover, and needs version 2; run "handover migrate"/,
      ) as string,
    });
    await migrate({ url: server.url });
    await check(use);
  });

  test.each([
    ["handover migrate", async () => handover("migrate", server.url)],
    [
      "the option migrate",
      async () => check(postgres({ service: "schema", url: server.url, migrate: true })),
    ],
  ])("an older schema is refused, and %s makes it what a new one is, with its rows", async (_, update) => {
    await server.query("drop schema if exists handover cascade");
    await migrate({ url: server.url });
    const made = await describeSchema();
    await server.query("drop schema handover cascade");
    await server.query(MIGRATIONS[0]!);
    // As version 1 had it at first.
    await server.query("create index offer_claimant on handover.offer (claimant) where claimant is not null");
    await server.query("insert into handover.version values (1)");
    await server.query("insert into handover.role values ('schema', 'cron', null, 7)");
    const use = postgres({ service: "schema", url: server.url });
    await expect(check(use)).rejects.toMatchObject({
      code: "ERR_EXCHANGE",
      message: expect.stringMatching(
        /has version 1 of the schema, and needs version 2; run "handover migrate"/,
      ) as string,
    });
    await update();
    await check(use);
    expect(await describeSchema()).toEqual(made);
    expect(await server.query("select fence from handover.role")).toEqual([{ fence: "7" }]);
  });

  test("a newer schema is used, and no migration of this release makes it older", async () => {
    await migrate({ url: server.url });
    await server.query("update handover.version set version = $1", [SCHEMA_VERSION + 1]);
    await migrate({ url: server.url });
    // Printed by --dry-run, and run by hand.
    await server.query(migrationText());
    await check(postgres({ service: "schema", url: server.url }));
    expect(await server.query("select version from handover.version")).toEqual([
      { version: SCHEMA_VERSION + 1 },
    ]);
    await server.query("update handover.version set version = $1", [SCHEMA_VERSION]);
  });

  test("ten processes that make the schema at the same time make it once", async () => {
    await server.query("drop schema if exists handover cascade");
    await Promise.all(Array.from({ length: 10 }, async () => migrate({ url: server.url })));
    expect(await server.query("select version from handover.version")).toEqual([{ version: SCHEMA_VERSION }]);
  });

  test("handover migrate says why it cannot", async () => {
    const { code, stderr } = await handover("migrate", "postgres://postgres@127.0.0.1:1/postgres");
    expect([code, stderr]).toEqual([1, expect.stringContaining("ECONNREFUSED")]);
  });

  test("handover migrate asks nothing but a database, and does not print the password of what else it is given", async () => {
    const { code, stderr } = await handover("migrate", "mysql://root:secret@127.0.0.1:1/chat");
    expect([code, stderr]).toEqual([2, expect.stringContaining("must begin with postgres://")]);
    expect(stderr).not.toContain("secret");
    expect((await handover("migrate", "etcd://127.0.0.1:1")).stderr).toContain("there is nothing to migrate");
  });

  test("handover migrate --json prints the version of the schema, or the statements", async () => {
    const made = jsonLines(await handover("migrate", server.url, "--json"));
    expect(made).toEqual([{ answer: "migrated", version: SCHEMA_VERSION }]);
    const [statements] = jsonLines(await handover("migrate", "--dry-run", "--json"));
    expect(statements).toEqual({ answer: "statements", version: SCHEMA_VERSION, text: migrationText() });
    const away = await handover("migrate", "postgres://postgres@127.0.0.1:1/postgres", "--json");
    expect(jsonLines(away)).toEqual([
      { answer: "failed", code: "ERR_EXCHANGE", message: expect.stringContaining("ECONNREFUSED") as string },
    ]);
  });

  test("a service needs only the rights that the dry run prints", async () => {
    await migrate({ url: server.url });
    await server.query("drop role if exists chat");
    await server.query("create role chat login");
    const grants = migrationText()
      .split("\n")
      .filter((line) => line.includes("SERVICE;"));
    expect(grants).toHaveLength(3);
    // A table that a later version adds.
    await server.query("drop table handover.fence");
    for (const grant of grants) await server.query(grant.slice(3).replace("SERVICE", "chat"));
    await server.query(migrationText());
    const exchange = (): ReturnType<typeof postgres> =>
      postgres({ service: "rights", url: server.urlOf("chat") });
    const [owner, other] = [joinHosts(exchange()), joinHosts(exchange())];
    other.hosts.exchange.subscribe("unit", "room", () => "taken");
    await owner.hosts.directory.own("room", ["x"]);
    await expect.poll(() => owner.hosts.exchange.peers("unit", "room")).toHaveLength(1);
    expect(await offer(owner.hosts.exchange, parcel("x", { kind: "unit", label: "room" }))).toEqual([taken]);
    expect(await owner.hosts.roles.acquire("cron")).toBeGreaterThan(0);
    await owner.hosts.roles.release("cron");
    await owner.hosts.leave();
    await server.query("drop owned by chat");
  });
});

/** The first answer about the other hosts is passed on after the next thing that the database tells. */
function answersLate(pool: Pool): PoolLike {
  let isFirst = true;
  return {
    connect: (connected) =>
      (pool as unknown as PoolLike).connect((error, client) => {
        const query = client?.query.bind(client);
        if (client !== undefined && isFirst)
          client.query = async (question) => {
            const answer = await query!(question);
            if (isFirst && question.text === STATEMENTS.others) {
              isFirst = false;
              await new Promise<unknown>((resolve) => client.on("notification", resolve));
            }
            return answer;
          };
        connected(error, client);
      }),
  };
}

type Query = ClientLike["query"];

/** The questions on connections of a pool pass through `ask`. */
function asking(
  pool: Pool,
  ask: (question: Parameters<Query>[0], query: Query) => ReturnType<Query>,
): PoolLike {
  const connect = pool.connect.bind(pool) as PoolLike["connect"];
  const patched = new WeakSet<ClientLike>();
  return {
    connect: (connected) =>
      connect((error, client) => {
        const query = client?.query.bind(client);
        if (query !== undefined && !patched.has(client!)) {
          patched.add(client!);
          client!.query = async (question) => ask(question, query);
        }
        connected(error, client);
      }),
  };
}

describe("the connection", () => {
  test("a database that is not there, an unknown user and a wrong password are refused, and the right one is not", async () => {
    await migrate({ url: server.url });
    const gone = postgres({ service: "gone", url: "postgres://postgres@127.0.0.1:1/postgres" });
    await expect(check(gone)).rejects.toMatchObject({
      code: "ERR_EXCHANGE",
      message: expect.stringContaining("ECONNREFUSED") as string,
    });
    const user = (name: string, password?: string): ReturnType<typeof postgres> =>
      postgres({
        service: "gone",
        client: { host: "127.0.0.1", port: server.port, database: "postgres", user: name, password },
      });
    await expect(check(user("stranger"))).rejects.toMatchObject({
      code: "ERR_EXCHANGE",
      message: expect.stringContaining('role "stranger" does not exist') as string,
    });
    await server.query("create role locked superuser login password 'right'");
    await server.authenticate("host all locked 127.0.0.1/32 md5");
    await expect(check(user("locked", "wrong"))).rejects.toMatchObject({
      code: "ERR_EXCHANGE",
      message: 'PostgreSQL cannot be asked: password authentication failed for user "locked"',
    });
    await check(user("locked", "right"));
    await server.authenticate();
    await server.query("drop role locked");
  });

  test("a database that says nothing on its connections is refused, and none of them is left", async () => {
    const open = new Set<Socket>();
    const silent = createServer((socket) => {
      open.add(socket);
      socket.on("error", () => {}).on("close", () => open.delete(socket));
      // Else it would not see the end.
      socket.resume();
    });
    await once(silent.listen(0, "127.0.0.1"), "listening");
    onTestFinished(() => void silent.close());
    const { port } = silent.address() as AddressInfo;
    const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
    const use = postgres({ service: "silent", url, lease: 1_000 });
    await expect(check(use)).rejects.toMatchObject({
      code: "ERR_EXCHANGE",
      message: "PostgreSQL cannot be asked: no connection in 333 ms",
    });
    await expect.poll(() => open.size).toBe(0);
  });

  test("a host that enters while another one does is known to that at once, and not only with its next beat", async () => {
    // A beat comes after 200 s.
    const options = { service: "enters", lease: 600_000 };
    const pool = new Pool({ connectionString: server.url });
    onTestFinished(async () => pool.end());
    const owner = joinHosts(postgres({ service: "enters", lease: 600_000, pool: answersLate(pool) }));
    const entered = "select from handover.seat where service = 'enters'";
    await expect.poll(async () => server.query(entered)).toHaveLength(1);
    joinHosts(server.exchange(options));
    await expect.poll(() => owner.hosts.status().peers).toHaveLength(1);
  });

  test("units that wait are taken batch after batch, and no batch waits for a beat", async () => {
    // A beat comes after 200 s.
    const options = { service: "batches", lease: 600_000 };
    const [owner, other] = [joinHosts(server.exchange(options)), joinHosts(server.exchange(options))];
    other.hosts.exchange.subscribe("unit", "room", () => "taken");
    const ids = Array.from({ length: 800 }, (_, n) => String(n));
    await owner.hosts.directory.own("room", ids);
    await expect.poll(() => owner.hosts.exchange.peers("unit", "room")).toHaveLength(1);
    const units = ids.map((id) => parcel(id, { kind: "unit", label: "room" }));
    expect(await offer(owner.hosts.exchange, ...units)).toEqual(ids.map(() => taken));
  });

  test("units that are offered while an earlier offer is asked for are offered by one statement together", async () => {
    const pool = new Pool({ connectionString: server.url });
    onTestFinished(async () => pool.end());
    const last = deferred<void>();
    let statements = 0;
    const counts = asking(pool, async (question, query) => {
      if (question.text === STATEMENTS.offer) {
        statements++;
        await last.promise;
      }
      return query(question);
    });
    const options = { service: "together", lease: 60_000 };
    const owner = joinHosts(postgres({ ...options, pool: counts, migrate: true }));
    const other = joinHosts(server.exchange(options));
    other.hosts.exchange.subscribe("unit", "room", () => "taken");
    const ids = Array.from({ length: 100 }, (_, n) => String(n));
    await owner.hosts.directory.own("room", ids);
    await expect.poll(() => owner.hosts.exchange.peers("unit", "room")).toHaveLength(1);
    const settling: Promise<unknown>[] = [];
    for (const id of ids) {
      settling.push(offer(owner.hosts.exchange, parcel(id, { kind: "unit", label: "room" })));
      await expect.poll(() => statements).toBe(1);
    }
    last.resolve();
    expect(await Promise.all(settling)).toEqual(ids.map(() => [taken]));
    expect(statements).toBe(2);
  });

  test("an owner is told which of its units were taken, and need not ask", async () => {
    const pool = new Pool({ connectionString: server.url });
    onTestFinished(async () => pool.end());
    const cannotLook = asking(pool, async (question, query) =>
      query(question.text === STATEMENTS.look ? { text: "select 1 / 0" } : question),
    );
    const options = { service: "told", lease: 60_000 };
    const owner = joinHosts(postgres({ ...options, pool: cannotLook, migrate: true }));
    const other = joinHosts(server.exchange(options));
    other.hosts.exchange.subscribe("unit", "room", () => "taken");
    const ids = Array.from({ length: 1_200 }, (_, n) => String(n));
    await owner.hosts.directory.own("room", ids);
    await expect.poll(() => owner.hosts.exchange.peers("unit", "room")).toHaveLength(1);
    const units = ids.map((id) => parcel(id, { kind: "unit", label: "room" }));
    const settlements = await offer(owner.hosts.exchange, ...units);
    expect(settlements).toEqual(ids.map(() => taken));
    await owner.hosts.leave();
  });

  test("a move reads the rows of its units, and not those of all units of the service", async () => {
    const fresh = await Postgres.start(["fsync = off", "autovacuum = off"]);
    onTestFinished(async () => fresh.remove());
    const options = { service: "rows", lease: 60_000 };
    const [owner, other] = [joinHosts(fresh.exchange(options)), joinHosts(fresh.exchange(options))];
    other.hosts.exchange.subscribe("unit", "room", () => "taken");
    const ids = Array.from({ length: 20_000 }, (_, n) => String(n));
    await owner.hosts.directory.own("room", ids);
    await expect.poll(() => owner.hosts.exchange.peers("unit", "room")).toHaveLength(1);
    const units = ids.slice(0, 500).map((id) => parcel(id, { kind: "unit", label: "room" }));
    await offer(owner.hosts.exchange, ...units);
    await Promise.all([owner.hosts.leave(), other.hosts.leave()]);
    // A connection counts what it has read when it ends.
    const backends = "select from pg_stat_activity where application_name = 'handover'";
    await expect.poll(async () => fresh.query(backends)).toHaveLength(0);
    const [read] = await fresh.query(
      `select sum(t.seq_tup_read + coalesce(i.idx_tup_read, 0))::int as rows from pg_stat_user_tables t
        left join (select relid, sum(idx_tup_read) as idx_tup_read from pg_stat_user_indexes group by 1) i using (relid)
        where t.relname in ('unit', 'offer')`,
    );
    expect(read!["rows"]).toBeLessThan(20_000);
  });

  test("a pool of the program is used, and not ended", async () => {
    const pool = new Pool({ connectionString: server.url, max: 3 });
    onTestFinished(async () => pool.end());
    const { hosts } = joinHosts(postgres({ service: "pool", pool, migrate: true }));
    expect(await hosts.directory.own("room", ["x"])).toMatchObject([{ fence: expect.any(Number) as number }]);
    await hosts.leave();
    const client = await pool.connect();
    client.release();
  });

  test("without LISTEN the hosts ask, and units move all the same", async () => {
    const options = { service: "polls", listen: false, lease: 6_000 };
    const [owner, other] = [joinHosts(server.exchange(options)), joinHosts(server.exchange(options))];
    other.hosts.exchange.subscribe("unit", "room", () => "taken");
    await owner.hosts.directory.own("room", ["x"]);
    await expect.poll(() => owner.hosts.exchange.peers("unit", "room")).toHaveLength(1);
    expect(await offer(owner.hosts.exchange, parcel("x", { kind: "unit", label: "room" }))).toEqual([taken]);
  });

  test("postgres() without a database says that its options are undefined, as an environment variable may be", () => {
    expect(() => postgres({ service: "a", url: undefined } as never)).toThrow(
      'needs one of the options "pool", "client" and "url", and all are undefined',
    );
  });

  test.each([
    ["no service", { url: "postgres://x/y" }],
    ["two databases", { service: "a", url: "postgres://x/y", client: {} }],
    ["no database", { service: "a" }],
    ["a URL of another database", { service: "a", url: "etcd://x:2379" }],
    ["a short lease", { service: "a", url: "postgres://x/y", lease: 10 }],
    ["an unknown option", { service: "a", url: "postgres://x/y", Lease: 5_000 }],
  ])("postgres() refuses %s", (_, options) => {
    expect(() => postgres(options as never)).toThrow(
      expect.objectContaining({ code: "ERR_OPTION" }) as Error,
    );
  });
});
