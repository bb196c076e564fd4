import { hostname } from "node:os";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Actor } from "../support/actor.js";
import { Postgres } from "../support/postgres.js";
import { handover } from "../support/program.js";
import { WebSocketClient } from "../support/websocket.js";

let server!: Postgres;
beforeAll(async () => {
  server = await Postgres.start();
});
afterAll(async () => server.remove());

let services = 0;

/** Starts hosts of one service, each with an address and a release. */
function service(): {
  start: (settings?: object) => Promise<Actor>;
  known: (count: number) => Promise<void>;
} {
  const name = `placement ${services++}`;
  const database = { service: name, url: server.url, lease: 12_000, migrate: true };
  let hosts = 0;
  return {
    start: async (settings = {}) =>
      Actor.start("places-units.js", {
        database,
        address: `10.0.0.${++hosts}:80`,
        release: "1",
        ...settings,
      }),
    async known(count) {
      const takers = "select from handover.seat where service = $1 and topics <> '{}'";
      await expect.poll(async () => server.query(takers, [name])).toHaveLength(count);
    },
  };
}

const ids = (count: number): string[] => Array.from({ length: count }, (_, n) => `r${n}`);
const sizes = async (...hosts: Actor[]): Promise<number[]> =>
  Promise.all(hosts.map(async (host) => Number(await host.tell("size"))));

test("a full host takes no more units, and another one has the rest", async () => {
  const { start, known } = service();
  const a = await start();
  await a.tell("startAll", ids(40));
  const [full, other] = [await start({ capacity: 3 }), await start()];
  await known(3);
  a.kill("SIGTERM");
  expect((await a.leaves("stopped"))["units"]).toMatchObject({ room: { moved: 40, stopped: 0 } });
  const [held, rest] = await sizes(full, other);
  expect(held).toBeLessThanOrEqual(3);
  expect(held! + rest!).toBe(40);
  other.kill("SIGTERM");
  const { units } = await other.leaves("stopped");
  expect(units).toMatchObject({ room: { moved: 3 - held!, stopped: 37 } });
  expect(await sizes(full)).toEqual([3]);
});

test("hosts of the newest release take units first, and what those refuse goes to an older one", async () => {
  const { start, known } = service();
  const a = await start();
  await a.tell("startAll", [...ids(40), "no"]);
  const older = await start();
  const newest = await start({ release: "2", refuses: ["no"] });
  await known(3);
  await expect
    .poll(async () => (await handover("status", older.pid)).stdout)
    .toContain(`(pid ${newest.pid} on ${hostname()}, release 2)`);
  a.kill("SIGTERM");
  expect((await a.leaves("stopped"))["units"]).toMatchObject({ room: { moved: 41, stopped: 0 } });
  await newest.says("refused", { id: "no" });
  const asked = await older.says("asked", { id: "no" });
  expect(asked).toMatchObject({
    age: expect.any(Number) as number,
    from: { pid: a.pid, address: "10.0.0.1:80", release: "1" },
  });
  // All were left to the newest release for 2 s of the database's clock.
  const ages = older.said("asked").map(({ age }) => Number(age));
  expect(Math.min(...ages)).toBeGreaterThanOrEqual(2_000);
});

test("a WebSocket is closed with 1012 and the reason of moved() when its unit runs on another host, and not before", async () => {
  const { start, known } = service();
  const a = await start({ waits: false });
  await a.tell("startAll", ["x", "stays"]);
  const { address } = (await a.says("listening")) as unknown as { address: { port: number } };
  const clients = await Promise.all(
    ["x", "stays"].map(async (id) => WebSocketClient.open(`ws://127.0.0.1:${address.port}/${id}`)),
  );
  const [moves, stays] = clients as [WebSocketClient, WebSocketClient];
  const b = await start({ waits: true, refuses: ["stays"] });
  await known(2);
  a.kill("SIGTERM");
  await b.says("run", { id: "x" });
  expect(await moves.ask("are you there?")).toBe("are you there?");
  await b.tell("letRun");
  expect(await moves.closed).toEqual({ code: 1012, reason: "x is at 10.0.0.2:80" });
  expect(await stays.closed).not.toMatchObject({ reason: expect.stringContaining("is at") as string });
  await a.says("stop", { id: "stays" });
  await a.leaves("stopped");
});
