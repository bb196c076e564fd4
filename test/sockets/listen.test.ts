import { createServer, type AddressInfo, type Server } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { freePort } from "../support/port.js";
import { readAll, target } from "../support/client.js";
import { brief, Service } from "../support/service.js";

const local = { host: "127.0.0.1", port: 0 };

/** Programs of which each generation listens on what is planned for it. */
async function start(...plans: object[][]): Promise<Service> {
  const service = Service.start("listens-by-plan.js", { settings: { ...brief, plans } });
  await service.until("accepting");
  return service;
}

async function addressOf(service: Service, generation: number, n = 0): Promise<AddressInfo> {
  return (await service.until("held", { generation, n }))["address"] as AddressInfo;
}

describe("an inherited listener", () => {
  test.each([
    ["by its address", local],
    ["by its name", { ...local, name: "main" }],
    ["on every address, IPv6 and IPv4", { port: 0 }],
    ["on every IPv6 address", { port: 0, host: "::", ipv6Only: true }],
    ["on every IPv4 address", { port: 0, host: "0.0.0.0" }],
    ["on an IPv6 address", { port: 0, host: "::1" }],
    ["by a host's name", { port: 0, host: "localhost" }],
  ])("a listener is inherited over three generations %s", async (_, plan) => {
    const service = await start([plan]);
    const first = await addressOf(service, 0);
    for (const generation of [1, 2]) {
      const { pid } = await service.replace();
      expect(await addressOf(service, generation)).toEqual(first);
      expect(await readAll(target(first))).toBe(String(pid));
    }
    await service.stop();
    expect(service.noise).toBe("");
  });

  test("a listener is inherited if the successor asks for the port that the system chose", async () => {
    const port = await freePort();
    const service = await start([{ ...local, port }]);
    const { pid } = await service.replace();
    expect((await addressOf(service, 1)).port).toBe(port);
    expect(await readAll(target(await addressOf(service, 1)))).toBe(String(pid));
  });

  test("the n-th listener on port 0 inherits the n-th one", async () => {
    const service = await start([local, { ...local, host: "::1" }, local, local], [local, local]);
    const ports = await Promise.all([0, 2, 3].map((n) => addressOf(service, 0, n)));
    expect(new Set(ports.map(({ port }) => port)).size).toBe(3);
    await service.replace();
    expect(await addressOf(service, 1, 0)).toEqual(ports[0]);
    expect(await addressOf(service, 1, 1)).toEqual(ports[1]);
    expect(await readAll(target(ports[2]))).toBe("ECONNREFUSED");
  });

  test("an inherited listener on every address accepts clients of IPv4 and IPv6", async () => {
    const service = await start([{ port: 0 }]);
    const { pid } = await service.replace();
    const { port } = await addressOf(service, 1);
    expect(await readAll({ port, host: "127.0.0.1" })).toBe(String(pid));
    expect(await readAll({ port, host: "::1" })).toBe(String(pid));
  });
});

describe("a listener that is bound afresh", () => {
  test("a listener is bound afresh if its name now has another port, and the old port goes with the predecessor", async () => {
    const [one, two] = [await freePort(), await freePort()];
    const service = await start(
      [{ ...local, name: "main", port: one }],
      [{ ...local, name: "main", port: two }],
    );
    const { pid } = await service.replace();
    expect(await readAll({ ...local, port: two })).toBe(String(pid));
    expect(await readAll({ ...local, port: one })).toBe("ECONNREFUSED");
  });

  test("a listener is bound afresh if its name now has another host", async () => {
    const service = await start([{ ...local, name: "main" }], [{ ...local, host: "::1", name: "main" }]);
    await service.replace();
    expect((await addressOf(service, 1)).address).toBe("::1");
    expect(await readAll(target(await addressOf(service, 0)))).toBe("ECONNREFUSED");
  });

  test("a listener is bound afresh if it is for IPv6 only now", async () => {
    const any = { port: 0, host: "::" };
    const service = await start([any], [{ ...any, ipv6Only: true }]);
    const { pid } = await service.replace();
    const { port } = await addressOf(service, 1);
    expect(port).not.toBe((await addressOf(service, 0)).port);
    expect(await readAll({ port, host: "::1" })).toBe(String(pid));
    expect(await readAll({ port, host: "127.0.0.1" })).toBe("ECONNREFUSED");
  });
});

test("listen() refuses a wider address while the predecessor holds the narrow one, and the error says so", async () => {
  const port = await freePort();
  const service = await start([{ host: "127.0.0.1", port }], [{ host: "0.0.0.0", port }]);
  process.kill(service.pid, "SIGHUP");
  expect(await service.until("refused", { generation: 1 })).toMatchObject({
    code: "ERR_LISTEN",
    cause: "EADDRINUSE",
    message: `cannot listen on tcp:0.0.0.0:${port}: EADDRINUSE (held by pid ${service.pid}, the predecessor)`,
  });
});

test("listen() refuses an address of another process, and the error has its PID", async () => {
  const { port } = await occupiedPort();
  const service = await start([{ host: "127.0.0.1", port }]);
  expect(await service.until("refused")).toMatchObject({
    code: "ERR_LISTEN",
    cause: "EADDRINUSE",
    message: `cannot listen on tcp:127.0.0.1:${port}: EADDRINUSE (held by pid ${process.pid})`,
  });
});

test.each([
  ["192.0.2.1", "EADDRNOTAVAIL"],
  ["nowhere.invalid", /ENOTFOUND|EAI_AGAIN/],
])("listen() on %s fails with %s", async (host, cause) => {
  const service = await start([{ host, port: 0 }]);
  const refused = await service.until("refused");
  expect(refused).toMatchObject({ code: "ERR_LISTEN", cause: expect.stringMatching(cause) });
  expect(refused["message"]).toMatch(`cannot listen on tcp:${host}:0: ${String(refused["cause"])}`);
});

test("a server is held with its address until the commit, and then emits `listening` once", async () => {
  const service = await start([local]);
  await service.replace();
  for (const generation of [0, 1]) {
    const held = await service.until("held", { generation });
    expect(held).toMatchObject({ listening: false, answer: held["address"] });
    const told = service.lines.filter(
      (line) => line.event === "server listening" && line.generation === generation,
    );
    expect(told).toMatchObject([{ address: held["address"] }]);
    expect(service.lines.indexOf(told[0]!)).toBeGreaterThan(service.lines.indexOf(held));
  }
});

test("a server emits `close` when the drain is over, before `exit` resolves", async () => {
  const service = await start([local]);
  await service.replace();
  await service.stop();
  for (const generation of [0, 1]) {
    const events = service.lines.filter((line) => line.generation === generation).map(({ event }) => event);
    expect(events.filter((event) => event === "server close")).toHaveLength(1);
    expect(events.indexOf("server close")).toBeGreaterThan(events.indexOf("draining"));
    expect(events.indexOf("server close")).toBeLessThan(events.indexOf("exited"));
  }
});

describe("a server of one process", () => {
  test("listen() refuses a server or an address that it cannot use, and says why", async () => {
    const service = Service.start("listens-on-what-is-refused.js");
    const refusals = async (what: string): Promise<object> => service.until("refused", { what });
    expect(await refusals("given twice")).toMatchObject({
      code: "ERR_LISTEN",
      message: "cannot listen on unix:/nowhere/twice: it was given to handover already",
    });
    expect(await refusals("given twice in one turn")).toMatchObject({
      code: "ERR_LISTEN",
      message: "cannot listen on unix:/nowhere/turn: it was given to handover already",
    });
    expect(await refusals("listening")).toMatchObject({
      code: "ERR_LISTEN",
      message: "cannot listen on unix:/nowhere/listening: the server listens already",
    });
    expect(await refusals("name in use")).toMatchObject({
      code: "ERR_LISTEN",
      message: 'cannot listen on unix:/nowhere/name: the name "main" is in use',
    });
    expect(await refusals("name of the library")).toMatchObject({
      code: "ERR_OPTION",
      message:
        'the name of a descriptor cannot be "handover:control": names that begin with "handover:" are reserved for ' +
        "handover itself",
    });
    expect(await refusals("address in use")).toMatchObject({
      code: "ERR_LISTEN",
      cause: "EADDRINUSE",
      message: expect.stringMatching(
        /^cannot listen on tcp:127\.0\.0\.1:\d+: EADDRINUSE \(held by this process\)$/,
      ),
    });
    expect(await refusals("application")).toMatchObject({
      code: "ERR_OPTION",
      message: "listen() takes a net.Server, not [Function (anonymous)]; give it http.createServer(app)",
    });
    expect(await refusals("unknown Node")).toMatchObject({
      code: "ERR_LISTEN",
      message: expect.stringMatching(/does not have _emitCloseIfDrained where it was$/),
      cause: "ERR_NOT_SUPPORTED",
    });
    expect(await refusals("wrong port")).toMatchObject({ code: "ERR_OPTION" });
    // A refusal leaves no trace.
    await service.until("bound", { what: "after a refusal" });
  });

  test("a server that is closed before the commit releases its address", async () => {
    const service = Service.start("closes-held-server.js");
    const { address } = await service.until("closed");
    expect((await service.until("again")).address).toEqual(address);
    await service.until("accepting");
    expect(service.lines.filter(({ event }) => event === "close event")).toHaveLength(1);
    expect(await readAll(target(address))).toBe("second");
  });

  test("a server that was closed can be given to listen() again", async () => {
    const service = Service.start("listens-again-after-close.js", { settings: { probation: 50 } });
    const { address } = await service.until("accepting");
    expect(await readAll(target(address))).toBe(String(service.pid));
    const { pid } = await service.replace();
    expect(await readAll(target(address))).toBe(String(pid));
  });

  test("a server that was closed is forgotten when its last connection has ended", async () => {
    const service = Service.start("closes-servers.js");
    expect(await service.until("unused")).toMatchObject({ connections: 0, watched: false });
    expect(await service.until("closing")).toMatchObject({ connections: 1, watched: true });
    expect(await service.until("closed")).toMatchObject({ connections: 0, watched: false });
  });

  test("listen() of a server that cannot accept rejects, and releases server and address", async () => {
    const service = Service.start("fails-to-accept-once.js");
    expect(await service.until("refused")).toMatchObject({
      code: "ERR_LISTEN",
      message: "cannot accept on main: out of luck",
      held: null,
    });
    const { address } = await service.until("accepting");
    expect(await readAll(target(address))).toBe("served");
  });

  test("a server whose signal is aborted before or after listen() is closed", async () => {
    const service = Service.start("aborts-listen.js");
    const { before, after } = await service.until("accepting");
    expect(await readAll(target(after))).toBe("ECONNREFUSED");
    expect(await readAll(target(before))).toBe("ECONNREFUSED");
  });
});

test("a server that is closed in a successor before its commit goes with the predecessor", async () => {
  const service = Service.start("successor-closes-before-ready.js", { settings: brief });
  const { address } = await service.until("accepting");
  process.kill(service.pid, "SIGHUP");
  await service.until("exited", { generation: 0 });
  expect(await readAll(target(address))).toBe("ECONNREFUSED");
});

test("a server given to listen() after ready() accepts at once, and is inherited", async () => {
  const service = Service.start("listens-after-ready.js", { settings: brief });
  const { address } = await service.until("late", { generation: 0 });
  expect(await readAll(target(address))).toBe(String(service.pid));
  const { pid } = await service.replace();
  expect((await service.until("late", { generation: 1 })).address).toEqual(address);
  expect(await readAll(target(address))).toBe(String(pid));
});

test("a listener that is being bound when an upgrade begins is inherited", async () => {
  const service = Service.start("upgrades-while-binding.js", { settings: brief });
  const { address } = await service.until("held", { generation: 0 });
  expect((await service.until("held", { generation: 1 })).address).toEqual(address);
});

test("listen() is refused while a process is upgrading, draining or stopped", async () => {
  const service = Service.start("listens-too-late.js", { settings: brief });
  await service.until("exited", { generation: 0 });
  const refusals = service.lines.filter((line) => line.event === "refused" && line.generation === 0);
  expect(refusals).toMatchObject([
    {
      state: "upgrading",
      code: "ERR_UPGRADE_IN_PROGRESS",
      message: "cannot listen: an upgrade is in progress",
    },
    {
      state: "draining",
      code: "ERR_ALREADY_UPGRADED",
      message: "cannot listen: this process has already been replaced",
    },
    { state: "exited", code: "ERR_ALREADY_UPGRADED" },
  ]);
  process.kill((await service.until("accepting", { generation: 1 })).pid, "SIGTERM");
  await service.ended();
  expect(service.lines.filter((line) => line.event === "refused" && line.generation === 1)).toMatchObject([
    { state: "draining", code: "ERR_STOPPED", message: "cannot listen: this process is stopping" },
    { state: "exited", code: "ERR_STOPPED" },
  ]);
});

async function occupiedPort(): Promise<AddressInfo> {
  const { server, address } = await listening();
  onTestFinished(() => void server.close());
  return address;
}

async function listening(): Promise<{ server: Server; address: AddressInfo }> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen({ port: 0, host: "127.0.0.1" }, resolve));
  return { server, address: server.address() as AddressInfo };
}

test("a server that is closed in the turn in which it begins to listen does not delay ready()", async () => {
  const service = Service.start("closes-as-it-listens.js");
  await service.until("accepting");
  await service.stop();
  expect(service.noise).toBe("");
});
