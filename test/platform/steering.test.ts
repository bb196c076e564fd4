import { spawn } from "node:child_process";
import { createSocket, type Socket as DatagramSocket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer, type Server } from "node:net";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished } from "vitest";
import { check, native, type Steering } from "../../dist/platform/native.js";
import { asRoot, isSkipped } from "../support/root.js";

const { EINVAL, ENOENT, ENOTSOCK } = constants.errno;

describe("a group of listeners", () => {
  it.each<[Steering, string]>([
    ["random", "127.0.0.1"],
    ["source", "127.0.0.1"],
    ["random", "::1"],
    ["source", "::1"],
  ])("gives each connection to the only chosen member, by %s on %s", async (by, address) => {
    const group = await listeners(4, address);
    expect(native().steer(group.fd, [2], by)).toBe(0);
    await connectTimes(60, group);
    expect(group.counts).toEqual([0, 0, 60, 0]);
  });

  it.each(["127.0.0.1", "::1"])(
    "gives connections to %s to all chosen members and to no other",
    async (address) => {
      const group = await listeners(4, address);
      expect(native().steer(group.fd, [3, 1], "random")).toBe(0);
      await connectTimes(60, group);
      expect(total(group)).toBe(60);
      expect(members(group)).toEqual([1, 3]);
    },
  );

  it("is steered anew by any member, as often as its chosen members change", async () => {
    const group = await listeners(3, "127.0.0.1");
    for (const [n, fd] of group.fds.entries()) {
      expect(native().steer(fd, [n], "random")).toBe(0);
      await connectTimes(10, group);
    }
    expect(group.counts).toEqual([10, 10, 10]);
  });

  it("has 64 chosen members at most, and each gets connections", async () => {
    const group = await listeners(64, "127.0.0.1");
    expect(native().steer(group.fd, [...group.counts.keys()], "random")).toBe(0);
    await connectTimes(2000, group);
    expect(total(group)).toBe(2000);
    // One of 64 is left out of 2,000 with a probability of 10^-12.
    expect(members(group)).toEqual([...group.counts.keys()]);
  });

  it.each<[number[], Steering]>([
    [[200], "random"],
    [[200], "source"],
    [[200, 255], "source"],
  ])(
    "loses no connection where the positions %j are outside of it: the kernel's hash chooses",
    async (indexes, by) => {
      const group = await listeners(3, "127.0.0.1");
      expect(native().steer(group.fd, indexes, by)).toBe(0);
      await connectTimes(60, group);
      expect(total(group)).toBe(60);
      expect(members(group)).toEqual([0, 1, 2]);
    },
  );

  it("keeps each of 100 source addresses at one chosen member, and all of them have some", async () => {
    const group = await listeners(5, "127.0.0.1");
    expect(native().steer(group.fd, [0, 1, 3, 4], "source")).toBe(0);
    const addresses = Array.from({ length: 100 }, (_, n) => `127.0.${n % 7}.${n + 1}`);
    const places = new Map(addresses.map((address) => [address, new Set<number>()]));
    for (let round = 0; round < 3; round++) {
      for (const address of addresses) places.get(address)!.add(await connectOnce(group, address));
    }
    expect([...places.values()].filter(({ size }) => size !== 1)).toEqual([]);
    expect(members(group)).toEqual([0, 1, 3, 4]);
    // A fair share is 75. An address is always in the same place, so these numbers never change.
    expect(Math.max(...group.counts)).toBeLessThanOrEqual(93);
  });

  it("keeps an IPv4 client at its member on a listener for IPv4 and IPv6 too", async () => {
    expect(await placesOn("::")).toEqual(await placesOn("127.0.0.1"));
  });

  it("keeps an IPv6 client at one of the chosen members", async () => {
    const group = await listeners(4, "::1");
    expect(native().steer(group.fd, [1, 2, 3], "source")).toBe(0);
    await connectTimes(30, group);
    expect(total(group)).toBe(30);
    expect(members(group)).toHaveLength(1);
    expect(group.counts[0]).toBe(0);
  });

  it.skipIf(isSkipped)(
    `keeps each of 100 IPv6 addresses at one member, and all of them have some${asRoot}`,
    async () => {
      const fixture = fileURLToPath(new URL("../fixtures/native/steers-ipv6.js", import.meta.url));
      const script =
        'ip link set lo up; ip -6 route add local fd00::/64 dev lo; echo 1 > /proc/sys/net/ipv6/ip_nonlocal_bind; exec "$0" "$1"';
      const words = ["--net", "sh", "-ec", script, process.execPath, fixture];
      const child = spawn("unshare", words, { stdio: ["ignore", "pipe", "inherit"] });
      onTestFinished(() => void child.kill("SIGKILL"));
      const reached = JSON.parse((await child.stdout.setEncoding("utf8").toArray()).join("")) as string[][];
      expect(reached.map(({ length }) => length)).toEqual(Array(100).fill(1));
      expect(new Set(reached.flat())).toEqual(new Set(["0", "1", "2", "3"]));
    },
  );

  it("gives the position of a closed member to its last one", async () => {
    const group = await listeners(3, "127.0.0.1");
    native().steer(group.fd, [0], "random");
    await connectTimes(5, group);
    await group.close(0);
    await connectTimes(5, group);
    expect(group.counts).toEqual([5, 0, 5]);
  });

  it("is left to the kernel's hash again by unsteer(), once", async () => {
    const group = await listeners(3, "127.0.0.1");
    native().steer(group.fd, [1], "random");
    await connectTimes(10, group);
    expect(group.counts).toEqual([0, 10, 0]);
    expect(native().unsteer(group.fds[2]!)).toBe(0);
    expect(native().unsteer(group.fd)).toBe(-ENOENT);
    await connectTimes(60, group);
    expect(members(group)).toEqual([0, 1, 2]);
  });

  it("is none without SO_REUSEPORT: the caller gets EINVAL, and the listener goes on", async () => {
    const group = await listeners(1, "127.0.0.1", false);
    expect(native().steer(group.fd, [0], "random")).toBe(-EINVAL);
    expect(native().steer(group.fd, [0, 1], "source")).toBe(-EINVAL);
    expect(native().unsteer(group.fd)).toBe(-EINVAL);
    await connectTimes(3, group);
    expect(group.counts).toEqual([3]);
  });

  it("is none of what is no socket", () => {
    const fd = check(native().memfdCreate("handover-test"), "make", "a file");
    expect([native().steer(fd, [0], "random"), native().unsteer(fd)]).toEqual([-ENOTSOCK, -ENOTSOCK]);
    native().close(fd);
  });
});

describe("a group of datagram sockets", () => {
  it.each(["127.0.0.1", "::1"])("gives each datagram to the only chosen member on %s", async (address) => {
    const group = datagramSockets(3, address);
    expect(native().steer(group.fd, [1], "random")).toBe(0);
    expect(await Promise.all([1, 2, 3, 4, 5].map(() => sendOnce(group, address)))).toEqual([1, 1, 1, 1, 1]);
  });

  it("keeps each of 30 source addresses at one chosen member", async () => {
    const group = datagramSockets(3, "127.0.0.1");
    expect(native().steer(group.fd, [0, 2], "source")).toBe(0);
    const addresses = Array.from({ length: 30 }, (_, n) => `127.0.0.${n + 1}`);
    const send = async (): Promise<number[]> => Promise.all(addresses.map((one) => sendOnce(group, one)));
    const first = await send();
    expect(await send()).toEqual(first);
    expect(new Set(first)).toEqual(new Set([0, 2]));
  });
});

interface Group {
  address: string;
  port: number;
  fds: number[];
  /** The first descriptor. */
  fd: number;
}

interface Listeners extends Group {
  /** The connections of each member. */
  counts: number[];
  close(n: number): Promise<void>;
}

/** Listeners of one port, in the order of their positions. Each tells a connection its own position, and ends it. */
async function listeners(count: number, address: string, reusePort = true): Promise<Listeners> {
  const { port, fds } = bindGroup("stream", count, address, reusePort);
  for (const fd of fds) check(native().listen(fd, 1024), "listen on", "a port");
  const counts = fds.map(() => 0);
  const servers = await Promise.all(
    fds.map(async (fd, n) => {
      const server = createServer((socket) => {
        counts[n]!++;
        socket.end(String(n));
      }).listen({ fd });
      await once(server, "listening");
      return server;
    }),
  );
  onTestFinished(async () => void (await Promise.all(servers.map(closed))));
  return { address, port, fds, fd: fds[0]!, counts, close: (n) => closed(servers[n]!) };
}

async function closed(server: Server): Promise<void> {
  await new Promise((resolve) => server.close(resolve));
}

function datagramSockets(count: number, address: string): Group {
  const { port, fds } = bindGroup("dgram", count, address, true);
  for (const [n, fd] of fds.entries()) {
    const socket = newSocket(address).bind({ fd });
    socket.on("message", (_, from) => socket.send(String(n), from.port, from.address));
    onTestFinished(() => void socket.close());
  }
  return { address, port, fds, fd: fds[0]! };
}

function newSocket(address: string): DatagramSocket {
  return createSocket(address.includes(":") ? "udp6" : "udp4");
}

function bindGroup(
  type: "stream" | "dgram",
  count: number,
  address: string,
  reusePort: boolean,
): { port: number; fds: number[] } {
  const fds: number[] = [];
  let port = 0;
  for (let n = 0; n < count; n++) {
    const fd = check(native().bindInet(type, address, port, false, reusePort), "bind", address);
    ({ port } = check(native().describe(fd), "describe", address));
    fds.push(fd);
  }
  return { port, fds };
}

async function connectTimes(times: number, group: Listeners): Promise<void> {
  for (let done = 0; done < times; done += 20) {
    const some = Math.min(20, times - done);
    await Promise.all(Array.from({ length: some }, () => connectOnce(group)));
  }
}

/** The position of the member that got the connection. */
async function connectOnce({ address, port }: Group, localAddress?: string, host = address): Promise<number> {
  const socket = connect({ port, host, ...(localAddress !== undefined && { localAddress }) });
  const words = await socket.setEncoding("latin1").toArray();
  return Number(words.join(""));
}

/** Where the connections of 20 IPv4 addresses arrive, if the listeners have this address. */
async function placesOn(address: string): Promise<number[]> {
  const group = await listeners(4, address);
  expect(native().steer(group.fd, [0, 1, 2, 3], "source")).toBe(0);
  const places: number[] = [];
  for (let n = 1; n <= 20; n++) places.push(await connectOnce(group, `127.0.0.${n}`, "127.0.0.1"));
  return places;
}

/** The position of the member that got a datagram. */
async function sendOnce({ address, port }: Group, from: string): Promise<number> {
  const socket = newSocket(address).bind(0, from);
  await once(socket, "listening");
  socket.send("x", port, address);
  const [answer] = (await once(socket, "message")) as [Buffer];
  socket.close();
  return Number(answer.toString("latin1"));
}

function total({ counts }: Listeners): number {
  return counts.reduce((sum, one) => sum + one, 0);
}

/** The positions that got a connection. */
function members({ counts }: Listeners): number[] {
  return [...counts.keys()].filter((n) => counts[n]! > 0);
}
