import { createSocket, type Socket } from "node:dgram";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { brief, Service } from "../support/service.js";

test.each([
  ["udp4", { port: 0, address: "127.0.0.1" }],
  ["udp4", { port: 0, address: "127.0.0.1", name: "main" }],
  ["udp4", { port: 0 }],
  ["udp4", { port: 0, address: "localhost" }],
  ["udp6", { port: 0, address: "::1" }],
  ["udp6", { port: 0 }],
  [{ type: "udp6", ipv6Only: true }, { port: 0 }],
])("a socket of %o bound to %o is inherited over three generations", async (type, bind) => {
  const service = Service.start("udp-echo.js", { settings: { ...brief, type, bind } });
  await service.until("accepting");
  const { address } = await service.until("held", { generation: 0 });
  const { port, family } = address as AddressInfo;
  const client = open(family === "IPv6" ? "udp6" : "udp4");
  for (const generation of [0, 1, 2]) {
    if (generation > 0) await service.replace();
    expect(await service.until("held", { generation })).toMatchObject({ address, answer: address });
    client.send(`for ${generation}`, port, family === "IPv6" ? "::1" : "127.0.0.1");
    await service.until("datagram", { generation, text: `for ${generation}` });
    const told = service.lines.filter((line) => line.generation === generation);
    expect(told.filter(({ event }) => event === "socket listening")).toMatchObject([{ address }]);
  }
  await service.stop();
  expect(service.lines.filter(({ event }) => event === "socket close")).toHaveLength(3);
  expect(service.noise).toBe("");
});

test("five upgrades receive every datagram exactly once", async () => {
  const service = Service.start("udp-echo.js", { settings: brief });
  const { address } = await service.until("held");
  await service.until("accepting");
  const sender = new Sender((address as AddressInfo).port);
  for (let n = 0; n < 5; n++) await service.replace();
  const sent = await sender.finish();
  // What has come back may not have been told yet.
  await service.stop();
  const received = service.lines.filter(({ event }) => event === "datagram");
  expect(received.map(({ text }) => Number(text)).toSorted((a, b) => a - b)).toEqual(
    Array.from({ length: sent }, (_, n) => n),
  );
  // Each generation had its part.
  expect(new Set(received.map(({ generation }) => generation))).toEqual(new Set([0, 1, 2, 3, 4, 5]));
});

test("a datagram sent before the commit waits for it, and a predecessor can send while it drains", async () => {
  const client = open("udp4");
  await new Promise<void>((resolve) => client.bind(0, "127.0.0.1", resolve));
  const received: string[] = [];
  const { port } = client.address();
  const service = Service.start("sends-early-and-late.js", { settings: { ...brief, port } });
  const complete = new Promise<void>((resolve) => {
    client.on("message", (data) => received.push(data.toString()) === 3 && resolve());
  });
  await service.until("accepting");
  await service.replace();
  await complete;
  expect(received.toSorted()).toEqual(["0 early", "0 late", "1 early"]);
  for (const generation of [0, 1]) {
    const events = service.lines.filter((line) => line.generation === generation).map(({ event }) => event);
    expect(events.indexOf("sent")).toBeGreaterThan(events.indexOf("initialized"));
  }
});

test("a wrong datagram that was sent before `ready()` fails there, and not in `ready()`", async () => {
  const service = Service.start("sends-wrong-type-early.js");
  await service.until("accepting");
  expect(await service.until("callback")).toMatchObject({ code: "ERR_INVALID_ARG_TYPE" });
  expect(await service.until("error event")).toMatchObject({ code: "ERR_INVALID_ARG_TYPE" });
});

test("each generation joins a multicast group once its socket emits `listening`", async () => {
  const service = Service.start("joins-multicast-group.js", { settings: brief });
  const { port } = await service.until("accepting");
  const client = open("udp4");
  await new Promise<void>((resolve) => client.bind(0, "127.0.0.1", resolve));
  client.setMulticastInterface("127.0.0.1");
  for (let pid = service.pid, n = 0; n < 3; n++) {
    if (n > 0) ({ pid } = await service.replace());
    const answer = new Promise<string>((resolve) =>
      client.once("message", (data) => resolve(data.toString())),
    );
    client.send("?", port as number, "239.255.7.7");
    expect(await answer).toBe(String(pid));
  }
  expect(service.noise).toBe("");
});

test("bind() refuses a socket that it cannot bind, and says why", async () => {
  const service = Service.start("binds-what-is-refused.js");
  await service.ended();
  const refused = (what: string): object | undefined => service.lines.find((line) => line["what"] === what);
  expect(refused("given twice")).toMatchObject({
    code: "ERR_LISTEN",
    message: "cannot listen on udp:0.0.0.0:0: it was given to handover already",
  });
  expect(refused("address in use")).toMatchObject({
    code: "ERR_LISTEN",
    message: expect.stringMatching(
      /^cannot listen on udp:127\.0\.0\.1:\d+: EADDRINUSE \(held by this process\)$/,
    ),
  });
  expect(refused("another family")).toMatchObject({ code: "ERR_LISTEN", cause: "EINVAL" });
  expect(refused("no socket")).toMatchObject({
    code: "ERR_OPTION",
    message: expect.stringMatching(/^bind\(\) takes a dgram\.Socket, not /),
  });
  expect(refused("bound already")).toMatchObject({
    code: "ERR_LISTEN",
    message: "cannot listen on udp:0.0.0.0:0: the socket is bound already, or closed",
  });
  expect(refused("closed before")).toMatchObject({ event: "bound" });
  expect(service.noise).toBe("");
});

function open(type: "udp4" | "udp6"): Socket {
  const socket = createSocket(type);
  onTestFinished(() => void socket.close());
  return socket;
}

/** Sends numbers, as fast as they come back, and never so many that the kernel has to drop one. */
class Sender {
  readonly #socket = open("udp4");
  readonly #port: number;
  #sent = 0;
  #back = 0;
  #finish: ((sent: number) => void) | undefined;

  constructor(port: number) {
    this.#port = port;
    this.#socket.on("message", () => {
      this.#back++;
      if (this.#finish === undefined) this.#send();
      else if (this.#back === this.#sent) this.#finish(this.#sent);
    });
    for (let n = 0; n < 16; n++) this.#send();
  }

  /** Resolves when everything has come back. */
  finish(): Promise<number> {
    return new Promise((resolve) => (this.#finish = resolve));
  }

  #send(): void {
    this.#socket.send(String(this.#sent++), this.#port, "127.0.0.1");
  }
}
