import { createSocket } from "node:dgram";
import { once, type EventEmitter } from "node:events";
import { statSync } from "node:fs";
import { createServer, get, type IncomingMessage } from "node:http";
import { connect, createServer as createNetServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { execFileSync } from "node:child_process";
import type { Fds, Upgrader as RealUpgrader, UpgraderEvents } from "handover";
import { Upgrader } from "handover/testing";
import { expect, test } from "vitest";
import { temporaryDirectory } from "./support/service.js";

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

test("the stand-in destroys what is still open after drainTimeout, and counts it", async () => {
  const upg = new Upgrader({ drainTimeout: 1 });
  const server = createNetServer();
  const { port } = (await upg.listen(server, 0, "127.0.0.1")) as AddressInfo;
  const client = connect(port, "127.0.0.1");
  await Promise.all([once(client, "connect"), once(server, "connection")]);
  const exited = once(upg, "exit");
  await upg.stop();
  expect(await exited).toEqual([{ outcome: "stopped", destroyed: 1, handedOver: 0, stayed: {}, units: {} }]);
  client.destroy();
});

test("the stand-in sets the mode of a Unix socket", async () => {
  const path = join(temporaryDirectory(), "app.sock");
  const upg = new Upgrader();
  expect(await upg.listen(createServer(), { path, mode: 0o600 })).toBe(path);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  await upg.stop();
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
