import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { migrate, postgres, type HostExchange } from "../../dist/postgres/index.js";
import { Actor } from "../support/actor.js";
import { testDirectory, type Member } from "../support/directory-suite.js";
import { testEngine } from "../support/engine-suite.js";
import { joinHosts } from "../support/hosts.js";
import { isMissing } from "../support/installed.js";
import { PgBouncer } from "../support/pgbouncer.js";
import { Postgres } from "../support/postgres.js";
import { handover, jsonLines } from "../support/program.js";

/** By hand, what every engine does: `HANDOVER_PGBOUNCER=whole npx vitest run test/hosts/pgbouncer.test.ts` */
const IS_WHOLE = process.env["HANDOVER_PGBOUNCER"] === "whole";

const isUntested = isMissing("pgbouncer");

let server!: Postgres;
let bouncer!: PgBouncer;
beforeAll(async () => {
  if (isUntested) return;
  server = await Postgres.start();
  bouncer = await PgBouncer.start(server.port);
  await migrate({ url: bouncer.url });
});
afterAll(async () => {
  if (isUntested) return;
  await bouncer.remove();
  await server.remove();
});

test.skipIf(isUntested)(
  `behind PgBouncer in the mode transaction hosts that ask move units, slots and roles${isUntested ? " (NOT TESTED: needs pgbouncer)" : ""}`,
  async () => {
    const database = { service: "moves", url: bouncer.url, listen: false, lease: 6_000 };
    const a = await Actor.start("on-several-hosts.js", { database, parks: { count: 7 } });
    await a.says("acquired");
    await a.tell(
      "startAll",
      Array.from({ length: 300 }, (_, n) => `r${n}`),
    );
    await a.tell("visit", "r7");
    const b = await Actor.start("on-several-hosts.js", { database, subscribes: true });
    await expect(b.tell("start", "r7")).rejects.toMatchObject({
      code: "ERR_ELSEWHERE",
      owner: { pid: a.pid },
    });
    await expect
      .poll(async () => jsonLines(await handover("status", a.pid, "--json"))[0]!["hosts"])
      .toMatchObject({ lease: "held", peers: [{ pid: b.pid }] });
    // Each process keeps one, and has others: a transaction finds nothing that an earlier one has left behind.
    const backends =
      "select from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()";
    expect((await server.query(backends)).length).toBeLessThanOrEqual(2);
    a.kill("SIGTERM");
    expect(await b.says("took")).toMatchObject({ data: { count: 7 } });
    const { units } = await a.leaves("stopped");
    expect(units).toMatchObject({ room: { moved: 300, stopped: 0, failures: {} } });
    expect(await b.tell("get", "r7")).toEqual({ visits: 1 });
    const acquired = await b.says("acquired");
    expect(acquired["fence"]).toBeGreaterThan(a.said("acquired")[0]!["fence"] as number);
  },
);

let services = 0;

/** Of a service that no other test has. */
function exchange(): () => HostExchange {
  const service = `bouncer ${services++}`;
  return () => postgres({ service, url: bouncer.url, listen: false, lease: 3_000 });
}

async function expire(seat: string): Promise<void> {
  const ends = "update handover.seat set seen = now() - lease * interval '2 ms' where seat = $1";
  await server.query(ends, [seat]);
}

// Not registered at all otherwise: a test that is skipped has to fail in CI.
describe.each(IS_WHOLE ? ["behind PgBouncer"] : [])("%s", () => {
  testEngine(() => ({ exchange: exchange(), expire, maxBody: 16 * 1024 * 1024 }));

  testDirectory(() => {
    const open = exchange();
    return (): Member => {
      const host = joinHosts(open());
      return {
        directory: host.hosts.directory,
        get name() {
          return host.name();
        },
        die: async () => expire(host.name().seat!),
      };
    };
  });
});
