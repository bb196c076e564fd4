import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { WorkerStatus } from "../../dist/control/protocol.js";
import { Postgres } from "../support/postgres.js";
import type { Line } from "../support/service.js";
import { Supervised } from "../support/supervised.js";

let server!: Postgres;
beforeAll(async () => {
  server = await Postgres.start();
});
afterAll(async () => server.remove());

let services = 0;

interface Tested {
  name: string;
  /** Starts the workers of one host, and waits until each has its seat. */
  start: (settings?: object, workers?: number) => Promise<Supervised>;
}

function service(lease = 20_000): Tested {
  const name = `workers ${services++}`;
  let hosts = 0;
  const start = async (settings: object = {}, workers = 2): Promise<Supervised> => {
    const database = { service: name, url: server.url, lease, migrate: true };
    const address = `10.0.0.${++hosts}:80`;
    const options = { settings: { database, address, ...settings }, workers };
    const supervised = await Supervised.start("on-several-hosts.js", options);
    await seated(supervised);
    return supervised;
  };
  return { name, start };
}

const isSeated = ({ state, hosts }: WorkerStatus): boolean => state === "ready" && hosts?.lease === "held";

/** Waits until each worker accepts and has its seat. */
async function seated(supervised: Supervised): Promise<WorkerStatus[]> {
  const { workers } = await supervised.eventually(({ workers: all = [] }) => all.every(isSeated));
  return workers!;
}

const seats = async (name: string): Promise<unknown[]> =>
  (await server.query("select seat from handover.seat where service = $1 order by 1", [name])).map(
    ({ seat }) => seat,
  );

/** The lines of all processes of some hosts, of one event. */
const said = (hosts: Supervised[], event: string): Line[] =>
  hosts.flatMap(({ service: { lines } }) => lines.filter((line) => line.event === event));

/** The roles that are held: acquired, and not released since by the same process. */
const holders = (...hosts: Supervised[]): number[] =>
  said(hosts, "acquired")
    .map(({ pid }) => pid)
    .filter((pid) => {
      const last = hosts
        .flatMap(({ service: { lines } }) => lines)
        .findLast((line) => line.pid === pid && ["acquired", "released", "exited"].includes(line.event));
      return last?.event === "acquired";
    });

const ids = (count: number): string[] => Array.from({ length: count }, (_, n) => `r${n}`);

describe("several hosts with several workers each", () => {
  test("each worker of each host has a seat, a unit runs in one of all workers, and one of them has the role", async () => {
    const { name, start } = service();
    const one = await start();
    // Of both hosts it is the first one's.
    await expect.poll(() => holders(one)).toHaveLength(1);
    const two = await start();
    expect(await seats(name)).toHaveLength(4);
    const pids = [...(await one.pids()), ...(await two.pids())];
    await one.tell(pids[0]!, "start", "x");
    for (const [n, pid] of pids.entries()) {
      const host = n < 2 ? one : two;
      expect(await host.tell(pid, "where", "x")).toMatchObject({ pid: pids[0], address: "10.0.0.1:80" });
    }
    await expect(two.tell(pids[3]!, "start", "x")).rejects.toMatchObject({
      code: "ERR_ELSEWHERE",
      owner: { pid: pids[0] },
    });
    await expect(one.tell(pids[1]!, "start", "x")).rejects.toMatchObject({ code: "ERR_ELSEWHERE" });
    expect(holders(one, two)).toHaveLength(1);
    const [holder] = holders(one, two);
    expect((await one.workers()).find(({ pid }) => pid === holder)!.roles).toBe(true);
    await two.stop();
    await one.stop();
    expect(await seats(name)).toEqual([]);
  });

  test("an upgrade in place of all workers writes nothing about units and roles, and keeps the seats", async () => {
    const { name, start } = service();
    const host = await start();
    const [a, b] = await host.pids();
    await host.tell(a!, "startAll", ids(5));
    await host.tell(b!, "start", "other");
    await expect.poll(() => holders(host)).toHaveLength(1);
    const rows = `select 'unit' as what, id, xmin::text from handover.unit where service = $1
      union all select 'role', name, xmin::text from handover.role where service = $1
      union all select 'seat', seat::text, '' from handover.seat where service = $1 order by 1, 2`;
    const before = await server.query(rows, [name]);
    expect(before).toHaveLength(9);
    await host.replace();
    const [c, d] = await host.pids();
    await expect.poll(() => said([host], "acquired")).toHaveLength(2);
    expect(holders(host)).toHaveLength(1);
    expect([await host.tell(c!, "size"), await host.tell(d!, "size")]).toEqual([5, 1]);
    expect(await server.query(rows, [name])).toEqual(before);
    const fences = said([host], "acquired").map(({ fence }) => fence as number);
    expect(fences[1]).toBeGreaterThan(fences[0]!);
  });

  test("a worker that dies loses its units and its role to another worker, with higher fences", async () => {
    const { start } = service(6_000);
    const host = await start({ recovers: true });
    await expect.poll(() => holders(host)).toHaveLength(1);
    const [a] = holders(host);
    const b = (await host.pids()).find((pid) => pid !== a);
    await host.tell(a!, "start", "x");
    process.kill(a!, "SIGKILL");
    const [first] = said([host], "run");
    await expect.poll(() => said([host], "run")).toHaveLength(2);
    const [, second] = said([host], "run");
    expect(second!.pid).not.toBe(a);
    expect(second!["fence"]).toBeGreaterThan(first!["fence"] as number);
    await expect.poll(() => said([host], "acquired")).toHaveLength(2);
    const [before, after] = said([host], "acquired");
    expect(after!.pid).not.toBe(a);
    expect(after!["fence"]).toBeGreaterThan(before!["fence"] as number);
    expect(await host.tell(b!, "where", "x")).toMatchObject({ pid: second!.pid });
  });
});

describe("a worker that leaves", () => {
  test("a worker that leaves hands its global units on over the engine, with their state, to a worker that stays", async () => {
    const { start } = service();
    const host = await start();
    const [a, b] = await host.pids();
    await host.tell(b!, "startAll", ids(20));
    await host.tell(b!, "visit", "r3");
    await host.scale(1);
    await expect.poll(async () => host.tell(a!, "size")).toBe(20);
    expect(await host.tell(a!, "get", "r3")).toEqual({ visits: 1 });
    expect(said([host], "stop")).toEqual([]);
    for (const { id, fence, at } of said([host], "abort")) {
      const run = said([host], "run").findLast((line) => line["id"] === id)!;
      expect(run.pid).toBe(a);
      expect(run["fence"]).toBeGreaterThan(fence as number);
      expect(run["at"]).toBeGreaterThanOrEqual(at as number);
    }
  });

  test("a worker that leaves and keeps a connection for long gives up its role and takes no units meanwhile", async () => {
    const { name, start } = service(6_000);
    const host = await start({ greets: true, drainTimeout: 60_000 });
    const [a, b] = await host.pids();
    // The roles of the host go to the second worker, and stay there.
    process.kill(a!, "SIGKILL");
    await host.eventually(({ workers = [] }) => workers[0]?.restarts === 1 && workers[1]?.roles === true);
    const [c] = (await seated(host)).map(({ pid }) => pid!);
    await expect.poll(() => holders(host).at(-1)).toBe(b);
    const socket = await connectTo(host, b!);
    // The new worker has to show that its event loop turns.
    await expect
      .poll(async () => host.scale(1).catch(({ code }: Error & { code: string }) => code))
      .toMatchObject({ workers: 1 });
    // The drain waits for the connection.
    await expect.poll(() => holders(host)).toContain(c);
    expect(said([host], "exited").filter(({ pid }) => pid === b)).toEqual([]);
    await expect
      .poll(async () =>
        server.query(
          "select draining from handover.seat where service = $1 and (about ->> 'pid')::int = $2",
          [name, b],
        ),
      )
      .toEqual([{ draining: true }]);
    socket.destroy();
  });
});

/** A connection to one of the workers. */
async function connectTo(host: Supervised, pid: number): Promise<Socket> {
  const { port } = (await host.until("listening"))["address"] as { port: number };
  for (;;) {
    const socket = connect(port, "127.0.0.1");
    onTestFinished(() => void socket.destroy());
    socket.on("error", () => {});
    const [greeting] = (await once(socket, "data")) as [Buffer];
    if (Number(greeting.toString()) === pid) return socket;
    socket.destroy();
  }
}
