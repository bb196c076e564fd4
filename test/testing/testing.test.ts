import { createSocket, type Socket } from "node:dgram";
import { once, type EventEmitter } from "node:events";
import { statSync } from "node:fs";
import { createServer, get, type IncomingMessage, type Server } from "node:http";
import { connect, createServer as createNetServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { execFileSync } from "node:child_process";
import type { Fds, Upgrader as RealUpgrader, UpgraderEvents } from "handover";
import { Upgrader } from "handover/testing";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../support/service.js";

/** What programs may use; the private members make the classes themselves differ. */
type Surface = Omit<RealUpgrader, keyof EventEmitter | "fds"> &
  EventEmitter<UpgraderEvents> & { fds: Pick<Fds, keyof Fds> };

test("the stand-in has the surface of the real one", () => {
  const upg: Surface = new Upgrader({ pidFile: "never-written.pid", signals: false });
  const either: RealUpgrader | Upgrader = upg as RealUpgrader | Upgrader;
  either.on("ready", ({ generation }) => expect(generation).toBe(0));
  either.once("failed", ({ error }) => expect(error).toBeInstanceOf(Error));
  expect(upg.generation).toBe(0);
  expect(upg.hasParent).toBe(false);
  expect(upg.state).toBe("starting");
});

test("the stand-in serves from listen() on, and stop() ends it", async () => {
  const upg = new Upgrader();
  const told: string[] = [];
  for (const event of ["ready", "draining", "exit"] as const) upg.on(event, () => told.push(event));
  const server = createServer((_, response) => response.end("hello"));
  const { port } = (await upg.listen(server, { port: 0, host: "127.0.0.1", name: "web" })) as AddressInfo;
  await upg.ready();
  await upg.ready();
  expect(upg.state).toBe("ready");
  const [response] = (await once(get({ port, host: "127.0.0.1", agent: false }), "response")) as [
    IncomingMessage,
  ];
  expect(await response.toArray().then(String)).toBe("hello");

  await upg.stop();
  await upg.stop();
  expect(await upg.exit).toBe("stopped");
  expect(upg.state).toBe("exited");
  expect(server.listening).toBe(false);
  expect(told).toEqual(["ready", "draining", "exit"]);
  await expect(upg.listen(createServer(), 0)).rejects.toMatchObject({ code: "ERR_STOPPED" });
});

test("the stand-in refuses names that begin with handover:, as the real one does", async () => {
  const upg = new Upgrader();
  const refusal = expect.objectContaining({ code: "ERR_OPTION" }) as Error;
  const definition = { version: 1, run: () => undefined, freeze: () => undefined };
  expect(() => upg.slot("handover:journal", { version: 1 })).toThrow(refusal);
  expect(() => upg.units("handover:x", definition)).toThrow(refusal);
  await expect(upg.role("handover:x", { acquire() {}, release() {} })).rejects.toThrow(refusal);
  await upg.stop();
});

test("the stand-in destroys what is still open after drainTimeout, and counts it", async () => {
  const upg = new Upgrader({ drainTimeout: 1 });
  const server = createNetServer();
  const { port } = (await upg.listen(server, 0, "127.0.0.1")) as AddressInfo;
  const client = connect(port, "127.0.0.1");
  await Promise.all([once(client, "connect"), once(server, "connection")]);
  const exited = once(upg, "exit");
  await upg.stop();
  expect(await exited).toEqual([
    { outcome: "stopped", destroyed: 1, unsettled: 0, moved: 0, stayed: {}, units: {} },
  ]);
  client.destroy();
});

test("the stand-in sets the mode of a Unix socket", async () => {
  const path = join(temporaryDirectory(), "app.sock");
  const upg = new Upgrader();
  expect(await upg.listen(createServer(), { path, mode: 0o600 })).toBe(path);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  await upg.stop();
});

test("the stand-in accepts servers and datagram sockets, and nothing else", async () => {
  const upg = new Upgrader();
  const [application, socket] = [() => {}, {}] as unknown as [Server, Socket];
  await expect(upg.listen(application, 0)).rejects.toMatchObject({ code: "ERR_OPTION" });
  await expect(upg.bind(socket)).rejects.toMatchObject({ code: "ERR_OPTION" });
});

test("the stand-in binds datagram sockets", async () => {
  const upg = new Upgrader();
  const socket = createSocket("udp4");
  const { address, port } = await upg.bind(socket, { address: "127.0.0.1" });
  expect(address).toBe("127.0.0.1");
  expect(port).toBeGreaterThan(0);
  const closed = once(socket, "close");
  await upg.stop();
  await closed;
});

test("the stand-in upgrades nothing, inherits nothing and has no parent to wait for", async () => {
  const upg = new Upgrader();
  await expect(upg.upgrade({})).rejects.toMatchObject({ code: "ERR_NOT_SUPPORTED" });
  await upg.waitForParent();
  const { fds } = upg;
  await fds.addFile("log", 1);
  expect(await fds.file("log")).toBeUndefined();
  expect(await fds.files()).toEqual(new Map());
  expect(await fds.listener("web")).toBeUndefined();
});

test("the stand-in holds roles from ready() to stop()", async () => {
  const upg = new Upgrader();
  const story: string[] = [];
  const role = (name: string) => ({
    acquire: ({ fence }: { fence: number }) => story.push(`+${name} ${fence > 0}`),
    release: () => story.push(`-${name}`),
  });
  await upg.role("a", role("a"));
  expect(story).toEqual([]);
  await upg.ready();
  await upg.role("b", role("b"));
  expect(story).toEqual(["+a true", "+b true"]);
  await expect(upg.role("a", role("a"))).rejects.toMatchObject({ code: "ERR_OPTION" });
  await upg.stop();
  expect(story.slice(2)).toEqual(["-b", "-a"]);
  await expect(upg.role("c", role("c"))).rejects.toMatchObject({ code: "ERR_STOPPED" });
});

test("the stand-in reports a role that cannot be acquired or released", async () => {
  const upg = new Upgrader();
  const failures: unknown[] = [];
  upg.on("failed", ({ error }) => failures.push(error.message));
  const stubborn = { acquire: () => {}, release: () => Promise.reject(new Error("no")) };
  await upg.role("a", stubborn);
  await upg.ready();
  const other = { acquire: () => Promise.reject(new Error("no")), release: () => {} };
  await expect(upg.role("b", other)).rejects.toMatchObject({ code: "ERR_ROLE" });
  await upg.stop();
  expect(failures).toEqual(['cannot release the role "a": no']);
});

test("the stand-in runs units, and stops them with their state", async () => {
  const upg = new Upgrader();
  const story: unknown[] = [];
  const rooms = upg.units<{ n: number }, { n: number }>("room", {
    version: 1,
    run: (id, { n }, { signal }) => {
      signal.addEventListener("abort", () => story.push(["abort", id]));
      return { n: n + 1 };
    },
    freeze: (_, room) => room,
    stop: (id, state) => story.push(["stop", id, state]),
  });
  await upg.ready();
  expect(await rooms.start("a", { n: 1 })).toEqual({ n: 2 });
  expect(await rooms.start("a", { n: 5 })).toBe(rooms.get("a"));
  await rooms.start("b", { n: 7 });
  expect(rooms.size).toBe(2);
  expect(rooms.release("b")).toBe(true);
  const exited = once(upg, "exit");
  await upg.stop();
  expect(story).toEqual([
    ["abort", "b"],
    ["abort", "a"],
    ["stop", "a", { n: 2 }],
  ]);
  expect(await exited).toMatchObject([{ units: { room: { stopped: 1, moved: 0, peers: 0 } } }]);
  await expect(rooms.start("c", { n: 1 })).rejects.toMatchObject({ code: "ERR_STOPPED" });
  // @ts-expect-error a definition without functions
  expect(() => upg.units("other", { version: 1 })).toThrow(/run/);
});

test("the stand-in withdraws every slot", async () => {
  const upg = new Upgrader();
  const slot = upg.slot<number>("counter", { version: 1 });
  const seen: number[] = [];
  slot.subscribe(({ data }) => seen.push(data));
  const early = slot.initiate(1, { timeout: 20_000 });
  const asked = slot.initiate(() => 2);
  await upg.ready();
  expect(await slot.peek()).toBeUndefined();
  expect(await slot.complete()).toEqual([]);
  await upg.stop();
  const late = slot.initiate(3);
  const withdrawn = { how: "withdrawn", refusals: [expect.objectContaining({ code: "ERR_NO_TAKER" })] };
  expect(await Promise.all([early, asked])).toEqual([withdrawn, withdrawn]);
  expect(await late).toMatchObject({ how: "withdrawn" });
  expect(seen).toEqual([]);
  await expect(slot.initiate(NaN)).rejects.toMatchObject({ code: "ERR_ENCODING" });
  // @ts-expect-error a misspelt option
  await expect(slot.initiate(1, { timout: 1 })).rejects.toMatchObject({ code: "ERR_OPTION" });
  expect(() => upg.slot("", { version: 1 })).toThrow(/1 to 512/);
});

test("the stand-in refuses what the real one refuses", async () => {
  // @ts-expect-error a misspelt option
  expect(() => new Upgrader({ pidfile: "x" })).toThrow('did you mean "pidFile"?');
  const upg = new Upgrader();
  await expect(upg.listen(createServer(), { port: -1 })).rejects.toMatchObject({ code: "ERR_OPTION" });
  const server = createServer();
  const { port } = (await upg.listen(server, 0, "127.0.0.1")) as AddressInfo;
  const message = `cannot listen on tcp:127.0.0.1:${port}: EADDRINUSE`;
  await expect(upg.listen(createServer(), port, "127.0.0.1")).rejects.toMatchObject({
    code: "ERR_LISTEN",
    message,
  });
  // @ts-expect-error an adapter without functions
  expect(() => upg.addConnections({ name: "chat", version: 1 })).toThrow(/idle/);
  await upg.stop();
});

test("the stand-in loads no addon, listens to no signal and lets the process end", () => {
  const program = `
    import { Upgrader } from "handover/testing";
    const upg = new Upgrader({ pidFile: "x.pid" });
    await upg.ready();
    const { sharedObjects } = process.report.getReport();
    const signals = process.eventNames().filter((name) => String(name).startsWith("SIG"));
    console.log(JSON.stringify([sharedObjects.filter((path) => path.endsWith(".node")), signals]));
  `;
  const printed = execFileSync(process.execPath, ["--input-type=module", "--eval", program], {
    encoding: "utf8",
  });
  expect(JSON.parse(printed)).toEqual([[], []]);
});
