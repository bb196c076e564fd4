import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import { spawn, type ChildProcessByStdio } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import { connect, createServer, Socket, type AddressInfo } from "node:net";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { check, MAX_FDS, native, POLL, type Native, type Received } from "../../dist/platform/native.js";
import { Manager } from "../support/manager.js";
import { asRoot, isSkipped } from "../support/root.js";

const {
  EADDRINUSE,
  EADDRNOTAVAIL,
  EAGAIN,
  EBADF,
  ECHILD,
  ECONNRESET,
  EINVAL,
  EMSGSIZE,
  ENAMETOOLONG,
  ENOENT,
  ENOTCONN,
  ENOTSOCK,
  ENOTSUP,
  EPERM,
  EPIPE,
  ECONNREFUSED,
  EPROTOTYPE,
  ESRCH,
} = constants.errno;
const O_CLOEXEC = 0o2000000;
const { O_NONBLOCK } = fs.constants;

const owned = new Set<number>();
let openBefore: string[];
let directory: string;

beforeAll(() => {
  native();
  directory = fs.mkdtempSync(join(tmpdir(), "handover-native-"));
  openBefore = openDescriptors();
});

afterEach(() => {
  for (const fd of owned) assert.equal(native().close(fd), 0);
  owned.clear();
});

afterAll(() => {
  fs.rmSync(directory, { recursive: true });
  assert.equal(openDescriptors().length, openBefore.length);
});

describe("a socket pair", () => {
  it("a socket pair is close-on-exec and nonblocking at both ends", () => {
    for (const fd of pair()) {
      expect(flags(fd) & O_CLOEXEC).toBe(O_CLOEXEC);
      expect(flags(fd) & fs.constants.O_NONBLOCK).toBe(fs.constants.O_NONBLOCK);
    }
  });

  it("a socket pair keeps message boundaries", () => {
    const [left, right] = pair();
    expect(native().send(left, Buffer.from("one"), [])).toBe(3);
    expect(native().send(left, Buffer.from("three"), [])).toBe(5);
    expect(text(right)).toBe("one");
    expect(text(right)).toBe("three");
  });

  it("a socket pair carries 253 descriptors in one message, and no more", () => {
    // The kernel itself answers EINVAL to the 254th.
    const [left, right] = pair();
    const many = Array.from({ length: MAX_FDS }, () => left);
    expect(() => native().send(left, Buffer.from("x"), [...many, left])).toThrow(RangeError);
    expect(native().send(left, Buffer.from("x"), many)).toBe(1);
    const { fds, fdsLost } = receive(right);
    expect(new Set(fds).size).toBe(MAX_FDS);
    expect(fdsLost).toBe(false);
  });

  it("receive() gives descriptors that are close-on-exec and mean the same file", () => {
    const [left, right] = pair();
    const file = own(fs.openSync(join(directory, "file"), "w"));
    native().send(left, Buffer.from("x"), [file, left]);
    const { fds } = receive(right);
    expect(fds.map((fd) => fs.fstatSync(fd).ino)).toEqual([file, left].map((fd) => fs.fstatSync(fd).ino));
    expect(fds.map((fd) => flags(fd) & O_CLOEXEC)).toEqual([O_CLOEXEC, O_CLOEXEC]);
  });

  it("receive() reports a message longer than the buffer, and still gives its descriptors", () => {
    const [left, right] = pair();
    native().send(left, Buffer.from("0123456789"), [left]);
    expect(receive(right, 4)).toMatchObject({
      size: 4,
      fds: [expect.any(Number)],
      truncated: true,
      fdsLost: false,
    });
    native().send(left, Buffer.from("0123"), []);
    expect(receive(right, 4)).toEqual({ size: 4, fds: [], truncated: false, fdsLost: false, sender: 0 });
  });

  it("receive() reports descriptors that were lost because the process has no room for them", async () => {
    const { stdout } = await run("few-descriptors.js", "ulimit -n 40; exec");
    expect(JSON.parse(stdout)).toEqual({ sent: 1, complete: false, fdsLost: true });
  });

  it("socketpair() leaves no descriptor behind when its result cannot be made", () => {
    const [left, right] = pair();
    native().send(left, Buffer.from("x"), [left, left]);
    const before = openDescriptors();
    Reflect.defineProperty(Object.prototype, "fdsLost", {
      configurable: true,
      set() {
        throw new Error("no");
      },
    });
    try {
      expect(() => native().receive(right, Buffer.alloc(4))).toThrow("no");
    } finally {
      Reflect.deleteProperty(Object.prototype, "fdsLost");
    }
    expect(openDescriptors()).toEqual(before);
  });

  it("a socket pair gives EAGAIN when there is nothing to read and when there is no room to write", () => {
    const [left, right] = pair();
    expect(native().receive(right, Buffer.alloc(4))).toBe(-EAGAIN);
    const message = Buffer.alloc(10_000);
    let result = 0;
    while (result >= 0) result = native().send(left, message, []);
    expect(result).toBe(-EAGAIN);
  });

  it("send() refuses a message that would never fit", () => {
    const [left] = pair();
    expect(native().send(left, Buffer.alloc(10_000_000), [])).toBe(-EMSGSIZE);
  });

  it("receive() tells a peer that has read everything from one that died with unread messages", () => {
    const [left, right] = pair();
    close(left);
    expect(receive(right).size).toBe(0);
    expect(native().send(right, Buffer.from("x"), [])).toBe(-EPIPE);

    const [dead, alive] = pair();
    native().send(alive, Buffer.from("never read"), []);
    close(dead);
    expect(native().receive(alive, Buffer.alloc(4))).toBe(-ECONNRESET);
    expect(receive(alive).size).toBe(0);
  });

  it("peerCredentials() gives the process at the other end", () => {
    const [left] = pair();
    const { pid, getuid, getgid } = process;
    expect(native().peerCredentials(left)).toEqual({ pid, uid: getuid?.(), gid: getgid?.() });
    expect(native().peerCredentials(own(fs.openSync("/dev/null", "r")))).toBe(-ENOTSOCK);
  });
});

describe("a pair of stream sockets", () => {
  it("a pair of stream sockets is close-on-exec, blocks, and carries bytes both ways", () => {
    const [left, right] = ok(native().streamPair());
    for (const fd of [own(left), own(right)]) expect(flags(fd) & (O_CLOEXEC | O_NONBLOCK)).toBe(O_CLOEXEC);
    for (const [from, to] of [
      [left, right],
      [right, left],
    ] as const) {
      fs.writeSync(from, "one");
      fs.writeSync(from, "two");
      expect(text(to)).toBe("onetwo");
    }
  });
});

describe("the sender of a message", () => {
  it("is unknown until the receiving socket asks for it", () => {
    const [left, right] = pair();
    native().send(left, Buffer.from("before"), []);
    expect(native().passCredentials(right)).toBe(0);
    native().send(left, Buffer.from("after"), []);
    expect(receive(right)).toMatchObject({ size: 6, sender: 0 });
    expect(receive(right)).toMatchObject({ size: 5, sender: process.pid });
  });

  it("comes with 253 descriptors, of which none is lost", () => {
    const [left, right] = pair();
    native().passCredentials(right);
    native().send(left, Buffer.from("x"), Array<number>(MAX_FDS).fill(left));
    const { fds, fdsLost, sender } = receive(right);
    expect(new Set(fds).size).toBe(MAX_FDS);
    expect([fdsLost, sender]).toEqual([false, process.pid]);
  });

  it("is the process that sends, not the one that made the socket", async () => {
    const [left, right] = pair();
    native().passCredentials(left);
    const child = holding("sends.js", right);
    await readable(left);
    expect(receive(left).sender).toBe(child.pid);
  });

  it.skipIf(isSkipped)(`has the PID that it has here${asRoot}`, async () => {
    const [left, right] = pair();
    native().passCredentials(left);
    holding("sends.js", right, inPidNamespace);
    await readable(left);
    const buffer = Buffer.alloc(1);
    const { sender } = ok(native().receive(left, buffer));
    expect(String(buffer)).toBe("1");
    expect(fs.readFileSync(`/proc/${sender}/status`, "latin1")).toMatch(`\nNSpid:\t${sender}\t1\n`);
  });

  it.skipIf(isSkipped)(`is unknown in a PID namespace that it is not in${asRoot}`, async () => {
    const [left, right] = pair();
    native().passCredentials(right);
    native().send(left, Buffer.from("x"), []);
    expect(await outputOf(holding("receives.js", right, inPidNamespace))).toBe('{"size":1,"sender":0}\n');
  });

  it("cannot be forged by a process without privileges", async () => {
    const [left, right] = pair();
    native().passCredentials(left);
    expect(await outputOf(holding("forges-sender.py", right, ["python3"], ["nobody"]))).toBe(`${EPERM}\n`);
    expect(native().receive(left, Buffer.alloc(4))).toBe(-EAGAIN);
  });

  it.skipIf(isSkipped)(`can be forged by root${asRoot}`, async () => {
    const [left, right] = pair();
    native().passCredentials(left);
    expect(await outputOf(holding("forges-sender.py", right, ["python3"]))).toBe("sent\n");
    expect(receive(left).sender).toBe(process.pid);
  });

  it("is refused for what is no socket", () => {
    expect(native().passCredentials(own(fs.openSync("/dev/null", "r")))).toBe(-ENOTSOCK);
  });
});

describe("poll", () => {
  it("poll() waits until the time is over", () => {
    const [, right] = pair();
    const start = performance.now();
    expect(native().poll(right, POLL.readable, 20)).toBe(0);
    expect(performance.now() - start).toBeGreaterThanOrEqual(19);
  });

  it("poll() returns the events that came", () => {
    const [left, right] = pair();
    expect(native().poll(right, POLL.readable | POLL.writable, 1000)).toBe(POLL.writable);
    native().send(left, Buffer.from("x"), []);
    expect(native().poll(right, POLL.readable | POLL.disconnect, 1000)).toBe(POLL.readable);
  });

  it("poll() returns every requested event when the peer hangs up", () => {
    const [left, right] = pair();
    close(left);
    for (let events = 1; events <= 7; events++) expect(native().poll(right, events, 1000)).toBe(events);
  });

  it("poll() gives EBADF for a number that is no descriptor", () => {
    expect(native().poll(100_000, POLL.readable, 1000)).toBe(-EBADF);
  });
});

describe("an inet socket", () => {
  it.each([
    ["stream", "127.0.0.1", "inet4", false],
    ["dgram", "127.0.0.1", "inet4", false],
    ["stream", "::ffff:127.0.0.1", "inet6", false],
    ["stream", "::1", "inet6", true],
    ["dgram", "::ffff:127.0.0.1", "inet6", false],
    ["dgram", "::1", "inet6", true],
  ] as const)(
    "bindInet() gives a %s socket of %s (%s) with a port of its own",
    (type, address, family, ipv6Only) => {
      const fd = own(native().bindInet(type, address, 0, ipv6Only));
      const description = ok(native().describe(fd));
      expect(description).toEqual({
        family,
        type,
        listening: false,
        address,
        port: expect.any(Number),
        ipv6Only,
        reusePort: false,
      });
      expect(description.port).toBeGreaterThan(0);
      expect(flags(fd) & (O_CLOEXEC | fs.constants.O_NONBLOCK)).toBe(O_CLOEXEC | fs.constants.O_NONBLOCK);
    },
  );

  it("bindInet() accepts an address with a scope", () => {
    // The address is not there, but it is understood.
    expect(native().bindInet("stream", "fe80::1%lo", 0, true)).toBe(-EADDRNOTAVAIL);
    expect(native().describe(own(native().bindInet("stream", "::1%1", 0, true)))).toMatchObject({
      port: expect.any(Number),
    });
  });

  it.each(["stream", "dgram"] as const)("bindInet() of a %s gives EADDRINUSE for a port in use", (type) => {
    const fd = own(native().bindInet(type, "127.0.0.1", 0, false));
    if (type === "stream") native().listen(fd, 1);
    const { port } = ok(native().describe(fd));
    expect(native().bindInet(type, "127.0.0.1", port, false)).toBe(-EADDRINUSE);
  });

  it.each(["stream", "dgram"] as const)(
    "bindInet() of a %s shares a port with another socket only if both have reusePort",
    (type) => {
      const bindTo = (port: number, reusePort?: boolean): number =>
        native().bindInet(type, "127.0.0.1", port, false, reusePort);
      const first = own(bindTo(0, true));
      if (type === "stream") native().listen(first, 1);
      const { port, reusePort } = ok(native().describe(first));
      expect(reusePort).toBe(true);
      expect(ok(native().describe(own(bindTo(port, true))))).toMatchObject({ port, reusePort: true });
      expect(bindTo(port)).toBe(-EADDRINUSE);
      expect(bindTo(port, false)).toBe(-EADDRINUSE);
    },
  );

  it("an inet socket listens, and describe() reports that", async () => {
    const fd = own(native().bindInet("stream", "127.0.0.1", 0, false));
    expect(native().listen(fd, 16)).toBe(0);
    const { listening, port } = ok(native().describe(fd));
    expect(listening).toBe(true);
    expect(await connects(connect(port, "127.0.0.1"))).toBe(true);
  });

  it.each(["localhost", "", "127.1", "127.0.0.1\0", "::1\0", "1.2.3.4.5", "fe80::1%no-such-interface"])(
    "bindInet() refuses the address %j, which is not numeric",
    (address) => {
      expect(native().bindInet("stream", address, 0, false)).toBe(-EINVAL);
    },
  );
});

describe("a Unix socket", () => {
  it.each([0o600, 0o660, 0o666, 0o777, 0o000])(
    "a Unix socket has the mode %o, whatever the umask is",
    (mode) => {
      const path = join(directory, `mode-${mode}`);
      withUmask(0o022, () => own(native().bindUnix(path, mode)));
      expect(fs.statSync(path).mode & 0o7777).toBe(mode);
    },
  );

  it("a Unix socket has by default the mode that the umask leaves", () => {
    const path = join(directory, "mode-default");
    withUmask(0o027, () => own(native().bindUnix(path, -1)));
    expect(fs.statSync(path).mode & 0o7777).toBe(0o750);
  });

  it.each(["a path", "an abstract name"])(
    "a Unix socket bound to %s listens, and describe() gives its address",
    (kind) => {
      const path = kind === "a path" ? join(directory, "listening") : `\0handover-native-${process.pid}`;
      const fd = own(native().bindUnix(path, 0o600));
      expect(flags(fd) & (O_CLOEXEC | fs.constants.O_NONBLOCK)).toBe(O_CLOEXEC | fs.constants.O_NONBLOCK);
      expect(native().bindUnix(path, 0o600)).toBe(-EADDRINUSE);
      expect(native().listen(fd, 16)).toBe(0);
      expect(native().describe(fd)).toEqual({
        family: "unix",
        type: "stream",
        listening: true,
        address: path,
        port: 0,
        ipv6Only: false,
        reusePort: false,
      });
      // The kernel writes @ for the NUL, and for every further NUL that an inexact length would add.
      expect(fs.readFileSync("/proc/net/unix", "latin1")).toContain(` ${path.replace("\0", "@")}\n`);
    },
  );

  it("a Unix socket accepts connections", async () => {
    const path = join(directory, "accepting");
    native().listen(own(native().bindUnix(path, 0o600)), 16);
    expect(await connects(connect(path))).toBe(true);
  });

  it.each(["", "\0"])(
    "a Unix socket accepts a name of 107 bytes, and no longer one (prefix %j)",
    (prefix) => {
      const start = prefix || directory + "/";
      expect(own(native().bindUnix(start.padEnd(107, "x"), -1))).toBeGreaterThan(2);
      expect(native().bindUnix(start.padEnd(108, "x"), -1)).toBe(-ENAMETOOLONG);
    },
  );

  it.each(["", "before\0after"])(
    "bindUnix() refuses the path %j, which the kernel would read as another",
    (path) => {
      expect(native().bindUnix(path, -1)).toBe(-EINVAL);
    },
  );

  it("a Unix socket without a name has an empty address", () => {
    expect(native().describe(pair()[0])).toMatchObject({ family: "unix", type: "seqpacket", address: "" });
  });
});

describe("a Unix datagram socket", () => {
  it.each(["a path", "an abstract name"])(
    "a Unix datagram socket connected to %s sends descriptors",
    async (kind) => {
      const path = kind === "a path" ? join(directory, "datagrams") : `\0handover-datagrams-${process.pid}`;
      const manager = await Manager.listen(path.replace("\0", "@"));
      const fd = own(native().connectUnix("dgram", path));
      expect(flags(fd) & (O_CLOEXEC | fs.constants.O_NONBLOCK)).toBe(O_CLOEXEC | fs.constants.O_NONBLOCK);
      const [left] = pair();
      expect(native().send(fd, Buffer.from("A=1"), [left])).toBe(3);
      const told = { pid: process.pid, message: { A: "1" }, inodes: [fs.fstatSync(left).ino] };
      expect(await manager.until({ A: "1" })).toEqual(told);
    },
  );

  it("a Unix datagram socket is refused without a listener, or by one for streams", () => {
    const path = join(directory, "streams");
    native().listen(own(native().bindUnix(path, -1)), 1);
    expect(native().connectUnix("dgram", path)).toBe(-EPROTOTYPE);
    expect(native().connectUnix("dgram", join(directory, "nowhere"))).toBe(-ENOENT);
    expect(native().connectUnix("dgram", "")).toBe(-EINVAL);
    expect(native().connectUnix("dgram", path.padEnd(108, "x"))).toBe(-ENAMETOOLONG);
  });
});

describe("a Unix stream socket", () => {
  it("a Unix stream socket connects to a listener at once, and is refused if its queue is full, or without one", () => {
    const path = join(directory, "queue");
    const listener = own(native().bindUnix(path, -1));
    expect(native().connectUnix("stream", path)).toBe(-ECONNREFUSED);
    native().listen(listener, 0);
    const fd = own(native().connectUnix("stream", path));
    expect(flags(fd) & (O_CLOEXEC | fs.constants.O_NONBLOCK)).toBe(O_CLOEXEC | fs.constants.O_NONBLOCK);
    expect(native().describe(fd)).toMatchObject({ family: "unix", type: "stream", listening: false });
    expect(native().connectUnix("stream", path)).toBe(-EAGAIN);
  });
});

describe("a descriptor", () => {
  it("isTerminal() tells a terminal from other devices, files and pipes", () => {
    const [terminal, device] = ["/dev/ptmx", "/dev/null"].map((path) => own(fs.openSync(path, "r+")));
    const others = [device!, own(fs.openSync(directory, "r")), pair()[0]];
    expect(native().isTerminal(terminal!)).toBe(true);
    expect(others.map((fd) => native().isTerminal(fd))).toEqual([false, false, false]);
  });

  it("duplicate() gives a descriptor that is close-on-exec and means the same file", () => {
    const [left] = pair();
    const duplicate = own(native().duplicate(left));
    expect(duplicate).not.toBe(left);
    expect(fs.fstatSync(duplicate).ino).toBe(fs.fstatSync(left).ino);
    expect(flags(duplicate) & O_CLOEXEC).toBe(O_CLOEXEC);
  });

  it("duplicate() and the pairs of sockets never give a standard descriptor, even if one is free", async () => {
    const { stdout } = await run("free-stdin.js");
    const made = JSON.parse(stdout) as number[];
    expect(made).toHaveLength(5);
    expect(Math.min(...made)).toBeGreaterThanOrEqual(3);
  });

  it("close() closes a descriptor once", () => {
    const fd = native().duplicate(1);
    expect(native().close(fd)).toBe(0);
    expect(native().close(fd)).toBe(-EBADF);
    expect(native().duplicate(fd)).toBe(-EBADF);
  });

  it("describe() gives ENOTSOCK for a descriptor that is no socket", () => {
    expect(native().describe(own(fs.openSync("/dev/null", "r")))).toBe(-ENOTSOCK);
  });
});

describe("sendBuffer", () => {
  it("is what the kernel made of the size that was set, and limits one message", () => {
    const [left] = pair();
    expect(native().setSendBuffer(left, 16 * 1024)).toBe(0);
    expect(native().sendBuffer(left)).toBe(32 * 1024);
    expect(native().send(left, new Uint8Array(32 * 1024 - 31), [])).toBe(-EMSGSIZE);
    expect(native().send(left, new Uint8Array(32 * 1024 - 32), [])).toBe(32 * 1024 - 32);
  });

  it("fails for what is no socket", () => {
    const file = own(fs.openSync("/dev/null", "r"));
    expect(native().sendBuffer(file)).toBe(-ENOTSOCK);
    expect(native().setSendBuffer(file, 1)).toBe(-ENOTSOCK);
  });
});

describe("shutdown", () => {
  it("ends the connection for every process that holds one of its ends", async () => {
    const [left, right] = pair();
    const child = holding("receives.js", right);
    const heldTwice = own(native().duplicate(left));
    expect(native().shutdown(left)).toBe(0);
    expect(await outputOf(child)).toBe('{"size":0,"sender":0}\n');
    for (const fd of [left, heldTwice, right]) {
      expect(receive(fd).size).toBe(0);
      expect(native().send(fd, Buffer.from("x"), [])).toBe(-EPIPE);
    }
  });

  it("lets what was sent before arrive", () => {
    const [left, right] = pair();
    native().send(left, Buffer.from("last words"), []);
    native().shutdown(left);
    expect(text(right)).toBe("last words");
    expect(receive(right).size).toBe(0);
  });

  it("is refused for what is no connection", () => {
    expect(native().shutdown(own(native().bindInet("stream", "127.0.0.1", 0, false)))).toBe(-ENOTCONN);
    expect(native().shutdown(own(fs.openSync("/dev/null", "r")))).toBe(-ENOTSOCK);
  });
});

describe("the counters of a connection", () => {
  it("tell of no use while only the peer does something", async () => {
    const { fd, peer } = await accepted();
    const unused = { written: 0, read: 0 };
    expect(use(fd)).toEqual(unused);
    peer.write("hello");
    await readable(fd);
    expect(counters(fd)).toEqual({ acked: 0, received: 5, unsent: 0, unread: 5 });
    peer.end();
    await watching(fd, POLL.disconnect);
    expect(use(fd)).toEqual(unused);
  });

  it("tell of what another process has read", async () => {
    const { fd, peer } = await accepted();
    peer.write("hello");
    await readable(fd);
    await outputOf(holding("reads-or-writes.js", fd, [process.execPath], ["read", "2"]));
    expect(counters(fd)).toMatchObject({ received: 5, unread: 3 });
    expect(use(fd)).toEqual({ written: 0, read: 2 });
  });

  it("tell of what another process has written, whether it is acknowledged or not", async () => {
    const { fd, peer } = await accepted();
    await outputOf(holding("reads-or-writes.js", fd, [process.execPath], ["write", "7"]));
    expect(use(fd)).toEqual({ written: 7, read: 0 });
    // The answer acknowledges what it answers.
    peer.once("data", () => peer.write("x"));
    await readable(fd);
    expect(counters(fd)).toEqual({ acked: 7, received: 1, unsent: 0, unread: 1 });
    expect(use(fd)).toEqual({ written: 7, read: 0 });
  });

  it("tell of what cannot be sent yet, as the peer takes no more", async () => {
    const { fd, peer } = await accepted();
    peer.pause();
    const written = fill(fd);
    expect(counters(fd).unsent).toBeGreaterThan(0);
    expect(use(fd)).toEqual({ written, read: 0 });
  });

  it("tell of the end of writing", async () => {
    const { fd } = await accepted();
    native().shutdown(fd);
    expect(use(fd)).toEqual({ written: 1, read: 0 });
  });

  it("are those of TCP connections alone", () => {
    const listener = own(native().bindInet("stream", "127.0.0.1", 0, false));
    native().listen(listener, 1);
    const counted = new Float64Array(4).fill(7);
    const count = (fd: number): number => native().connectionCounters(fd, counted);
    expect(count(listener)).toBe(-EINVAL);
    expect(count(own(native().bindInet("dgram", "::1", 0, true)))).toBe(-ENOTSUP);
    expect(count(pair()[0])).toBe(-ENOTSUP);
    expect(count(own(fs.openSync("/dev/null", "r")))).toBe(-ENOTSOCK);
    expect(counted).toEqual(new Float64Array(4).fill(7));
  });
});

describe("a vacated descriptor", () => {
  it("refers to /dev/null, is watched no longer, and leaves its connection to another holder", async () => {
    const { fd: copy, peer } = await accepted();
    const fd = native().duplicate(copy);
    const socket = new Socket({ fd, readable: true, writable: true });
    await turns();
    (socket as unknown as { _handle: { readStop(): void } })._handle.readStop();
    expect(watched()).toContain(fd);
    expect(native().vacate([fd])).toBe(0);
    expect(fs.readlinkSync(`/proc/self/fd/${fd}`)).toBe("/dev/null");
    expect(flags(fd) & O_CLOEXEC).toBe(O_CLOEXEC);
    expect(watched()).not.toContain(fd);
    fs.writeSync(copy, "still here");
    expect(String(await once(peer, "data"))).toBe("still here");
    const closed = once(socket, "close");
    socket.destroy();
    await closed;
  });

  it("must be open", () => {
    expect(native().vacate([2 ** 20])).toBe(-EBADF);
    expect(native().vacate([])).toBe(0);
  });
});

/** The descriptors that any set of this process watches. */
function watched(): number[] {
  return fs.readdirSync("/proc/self/fd").flatMap((fd) => {
    // That of the directory is closed by now.
    const path = `/proc/self/fdinfo/${fd}`;
    const info = fs.existsSync(path) ? fs.readFileSync(path, "latin1") : "";
    return [...info.matchAll(/^tfd:\s+(\d+)/gm)].map(([, watchedFd]) => Number(watchedFd));
  });
}

describe("a memory file", () => {
  it("a sealed memory file can be read, but not changed", () => {
    const fd = own(native().memfdCreate("handover-test"));
    expect(fs.readlinkSync(`/proc/self/fd/${fd}`)).toContain("memfd:handover-test");
    expect(flags(fd) & O_CLOEXEC).toBe(O_CLOEXEC);
    fs.writeSync(fd, "state", 0);
    expect(native().memfdSealed(fd)).toBe(0);
    expect(native().memfdSeal(fd)).toBe(0);
    expect(native().memfdSealed(fd)).toBe(1);

    const refused = expect.objectContaining({ code: "EPERM" }) as unknown;
    expect(() => fs.writeSync(fd, "other", 0)).toThrow(refused);
    expect(() => fs.ftruncateSync(fd, 1)).toThrow(refused);
    expect(() => fs.ftruncateSync(fd, 100)).toThrow(refused);
    expect(native().memfdSeal(fd)).toBe(-EPERM);
    const buffer = Buffer.alloc(16);
    expect(buffer.toString("latin1", 0, fs.readSync(fd, buffer, 0, 16, 0))).toBe("state");
  });

  it("memfdSealed() tells a memory file from other files", () => {
    const file = own(fs.openSync(join(directory, "plain"), "w"));
    expect(native().memfdSealed(file)).toBe(-EINVAL);
    expect(native().memfdSeal(file)).toBe(-EINVAL);
  });
});

describe("a pidfd", () => {
  it("is close-on-exec", () => {
    expect(flags(own(native().pidfdOpen(process.pid))) & O_CLOEXEC).toBe(O_CLOEXEC);
  });

  it("is readable when the process has ended, and not before", async () => {
    const [, right] = pair();
    const child = holding("sends.js", right);
    const pidfd = own(native().pidfdOpen(child.pid!));
    expect(native().poll(pidfd, POLL.readable, 0)).toBe(0);
    const ended = readable(pidfd);
    expect(native().pidfdKill(pidfd, constants.signals.SIGTERM)).toBe(0);
    await ended;
    expect(native().poll(pidfd, POLL.readable, 0)).toBe(POLL.readable);
  });

  it("belongs to its process even when that has been reaped", async () => {
    const [, right] = pair();
    const child = holding("sends.js", right);
    const pidfd = own(native().pidfdOpen(child.pid!));
    const exited = once(child, "exit");
    native().pidfdKill(pidfd, constants.signals.SIGKILL);
    expect(await exited).toEqual([null, "SIGKILL"]);
    expect(native().pidfdKill(pidfd, 0)).toBe(-ESRCH);
    expect(native().pidfdOpen(child.pid!)).toBe(-ESRCH);
    expect(native().poll(pidfd, POLL.readable, 0)).toBe(POLL.readable);
  });

  it("can be had of a process that is no child", () => {
    const pidfd = own(native().pidfdOpen(process.ppid));
    expect(native().pidfdKill(pidfd, 0)).toBe(0);
  });

  it("is told from other descriptors", () => {
    expect(native().pidfdKill(pair()[0], 0)).toBe(-EBADF);
  });
});

describe("a child that has exited", () => {
  it("is shown until it is reaped", async () => {
    expect(native().peekExited()).toBe(-ECHILD);
    const child = spawn("true");
    const exited = once(child, "exit");
    // The event loop does not turn, so libuv does not reap it.
    let seen = native().peekExited();
    while (seen === -EAGAIN) seen = native().peekExited();
    expect([seen, native().peekExited()]).toEqual([child.pid, child.pid]);
    expect(await exited).toEqual([0, null]);
    expect(native().peekExited()).toBe(-ECHILD);
  });
});

describe("a watcher", () => {
  it("a watcher calls back when the descriptor is readable, in the context in which it was made", async () => {
    const [left, right] = pair();
    const storage = new AsyncLocalStorage<string>();
    const fired = storage.run("here", () => watching(right, POLL.readable, () => storage.getStore()));
    native().send(left, Buffer.from("x"), []);
    expect(await fired).toEqual({ events: POLL.readable, result: "here" });
  });

  it("a watcher waits for the events of its last start, and for none after 0", async () => {
    const [left, right] = pair();
    const seen: number[] = [];
    const watcher = new (native().Watcher)(right, (events) => {
      seen.push(events);
      watcher.watch(0);
    });
    native().send(left, Buffer.from("x"), []);
    expect(watcher.watch(POLL.readable)).toBe(0);
    expect(watcher.watch(0)).toBe(0);
    await turns();
    expect(seen).toEqual([]);
    expect(watcher.watch(POLL.readable)).toBe(0);
    expect(watcher.watch(POLL.writable)).toBe(0);
    await turns();
    expect(seen).toEqual([POLL.writable]);
    watcher.close();
    await turns();
  });

  it("a watcher runs ticks and microtasks of its callback before the next event", async () => {
    const [left, right] = pair();
    const order: string[] = [];
    const watcher = new (native().Watcher)(right, () => {
      order.push("called");
      process.nextTick(() => order.push("tick"));
      queueMicrotask(() => order.push("microtask"));
      if (order.length > 3) watcher.close();
    });
    watcher.watch(POLL.readable);
    native().send(left, Buffer.from("x"), []);
    await turns();
    expect(order).toEqual(["called", "tick", "microtask", "called", "tick", "microtask"]);
  });

  it("a watcher reports a hang-up", async () => {
    const [left, right] = pair();
    const fired = watching(right, POLL.readable | POLL.disconnect);
    close(left);
    expect(await fired).toMatchObject({ events: POLL.readable | POLL.disconnect });
  });

  it("a watcher reports an error as every requested event, and keeps watching", async () => {
    const [dead, alive] = pair();
    native().send(alive, Buffer.from("never read"), []);
    const results: unknown[] = [];
    const fired = new Promise<void>((resolve) => {
      const watcher = new (native().Watcher)(alive, (events) => {
        results.push(events, native().receive(alive, Buffer.alloc(4)));
        if (results.length < 4) return;
        watcher.close();
        resolve();
      });
      watcher.watch(POLL.readable | POLL.disconnect);
    });
    close(dead);
    await fired;
    const all = POLL.readable | POLL.disconnect;
    const end = { size: 0, fds: [], truncated: false, fdsLost: false, sender: 0 };
    expect(results).toEqual([all, -ECONNRESET, all, end]);
  });

  it("a watcher is quiet once it is closed, and can be closed again", async () => {
    const [left, right] = pair();
    let calls = 0;
    const watcher = new (native().Watcher)(right, () => calls++);
    watcher.watch(POLL.readable);
    native().send(left, Buffer.from("x"), []);
    watcher.close();
    watcher.close();
    watcher.ref();
    watcher.unref();
    expect(watcher.watch(POLL.readable)).toBe(-EBADF);
    await turns();
    expect(calls).toBe(0);
  });

  it("a watcher of a file that cannot be watched is refused with a system error", () => {
    const file = own(fs.openSync(join(directory, "watched"), "w"));
    expect(() => new (native().Watcher)(file, nothing)).toThrow(
      expect.objectContaining({ code: "EPERM", errno: -EPERM, message: `cannot watch fd ${file}: EPERM` }),
    );
    expect(() => new (native().Watcher)(100_000, nothing)).toThrow(
      expect.objectContaining({ code: "EBADF" }),
    );
  });

  it("a watcher does not hold the event loop once it is unreferenced", async () => {
    expect(await run("unreferenced.js")).toEqual({
      code: 0,
      signal: null,
      stdout: "nothing left to wait for\n",
      stderr: "",
    });
  });

  it("a watcher without references stays while it waits, and is collected when it is idle", async () => {
    expect(await run("collected.js")).toEqual({
      code: 0,
      signal: null,
      stdout: "the idle one is gone\nthe waiting one is called\n",
      stderr: "",
    });
  });

  it("an exception of a watcher's callback is an uncaught exception", async () => {
    const { code, signal, stdout, stderr } = await run("throwing-callback.js");
    expect([code, signal]).toEqual([1, null]);
    expect(stdout).toBe("caught: thrown by call 1\n");
    expect(stderr).toContain("Error: thrown by call 2");
  });

  it("a watcher works in a worker, which can be terminated while it waits", async () => {
    const [left, right] = pair();
    const worker = new Worker(new URL("../fixtures/native/watching-worker.js", import.meta.url), {
      workerData: right,
    });
    expect(await once(worker, "message")).toEqual(["watching"]);
    native().send(left, Buffer.from("hello"), []);
    expect(await once(worker, "message")).toEqual(["hello"]);
    expect(await worker.terminate()).toBe(1);
  });

  it("a worker can be terminated during the callback of a watcher", async () => {
    expect(await run("terminated-workers.js")).toEqual({
      code: 0,
      signal: null,
      stdout: "all terminated\n",
      stderr: "",
    });
  });
});

describe("a wrong argument", () => {
  const bytes = new Uint8Array(1);
  const fdWords = "`fd` must be an integer from 0 to 2147483647, got";
  const portWords = "`port` must be an integer from 0 to 65535, got";

  it.each<[keyof Native, string, ErrorConstructor, unknown[]]>([
    ["send", `${fdWords} undefined`, TypeError, []],
    ["send", `${fdWords} a string`, TypeError, ["1", bytes, []]],
    ["send", `${fdWords} -1`, RangeError, [-1, bytes, []]],
    ["send", `${fdWords} 1.5`, RangeError, [1.5, bytes, []]],
    ["send", `${fdWords} NaN`, RangeError, [NaN, bytes, []]],
    ["send", `${fdWords} 2147483648`, RangeError, [2 ** 31, bytes, []]],
    ["send", "`data` must be a Uint8Array, got a string", TypeError, [1, "text", []]],
    ["send", "`data` must be a Uint8Array, got an object", TypeError, [1, new Uint16Array(1), []]],
    ["send", "`fds` must be an array, got an object", TypeError, [1, bytes, new Set()]],
    ["send", "`fds[1]` must be an integer from 0 to 2147483647, got null", TypeError, [1, bytes, [0, null]]],
    ["send", "`fds[0]` must be an integer from 0 to 2147483647, got -1", RangeError, [1, bytes, [-1]]],
    ["send", "`fds` must have at most 253 descriptors, got 254", RangeError, [1, bytes, Array(254).fill(0)]],
    ["receive", `${fdWords} a bigint`, TypeError, [1n, bytes]],
    [
      "receive",
      "`buffer` must be a Uint8Array, got an object",
      TypeError,
      [1, new DataView(new ArrayBuffer(1))],
    ],
    ["passCredentials", `${fdWords} undefined`, TypeError, []],
    ["poll", "`events` must be an integer from 1 to 7, got 0", RangeError, [1, 0, 0]],
    ["poll", "`timeout` must be an integer from 0 to 2147483647, got -1", RangeError, [1, 1, -1]],
    ["bindInet", "`type` must be `stream` or `dgram`, got a string", TypeError, ["raw", "::1", 0, true]],
    ["bindInet", "`address` must be a string, got an array", TypeError, ["dgram", [], 0, true]],
    ["bindInet", `${portWords} 65536`, RangeError, ["dgram", "::1", 65536, true]],
    ["bindInet", `${portWords} a string`, TypeError, ["dgram", "::1", "80", true]],
    ["bindInet", "`ipv6Only` must be a boolean, got a number", TypeError, ["dgram", "::1", 0, 1]],
    [
      "bindInet",
      "`reusePort` must be a boolean, got a number",
      TypeError,
      ["stream", "127.0.0.1", 0, false, 1],
    ],
    ["steer", `${fdWords} undefined`, TypeError, []],
    ["steer", "`indexes` must be an array, got a number", TypeError, [1, 0, "random"]],
    ["steer", "`indexes` must have from 1 to 64 numbers, got 0", RangeError, [1, [], "random"]],
    [
      "steer",
      "`indexes` must have from 1 to 64 numbers, got 65",
      RangeError,
      [1, Array(65).fill(0), "random"],
    ],
    ["steer", "`indexes[1]` must be an integer from 0 to 255, got 256", RangeError, [1, [0, 256], "random"]],
    ["steer", "`by` must be `random` or `source`, got a string", TypeError, [1, [0], "load"]],
    ["unsteer", `${fdWords} undefined`, TypeError, []],
    ["bindUnix", "`path` must be a string, got a symbol", TypeError, [Symbol("path"), -1]],
    ["bindUnix", "`mode` must be an integer from -1 to 511, got 512", RangeError, ["path", 0o1000]],
    ["connectUnix", "`type` must be `stream` or `dgram`, got undefined", TypeError, []],
    ["connectUnix", "`path` must be a string, got undefined", TypeError, ["stream"]],
    ["isTerminal", `${fdWords} undefined`, TypeError, []],
    ["listen", "`backlog` must be an integer from 0 to 2147483647, got -1", RangeError, [1, -1]],
    ["duplicate", `${fdWords} a boolean`, TypeError, [true]],
    ["shutdown", `${fdWords} undefined`, TypeError, []],
    ["vacate", "`fds` must be an array, got undefined", TypeError, []],
    ["connectionCounters", `${fdWords} undefined`, TypeError, []],
    ["connectionCounters", "`counted` must be a Float64Array of 4, got undefined", TypeError, [1]],
    [
      "connectionCounters",
      "`counted` must be a Float64Array of 4, got an object",
      TypeError,
      [1, new Float64Array(3)],
    ],
    ["close", `${fdWords} a function`, TypeError, [nothing]],
    ["describe", `${fdWords} an object`, TypeError, [{}]],
    ["peerCredentials", `${fdWords} null`, TypeError, [null]],
    ["spawn", "`path` must be a string, got undefined", TypeError, []],
    ["spawn", "`path` must not contain NUL", RangeError, ["a\0b", [], [], "/", []]],
    ["spawn", "`words` must be an array, got a string", TypeError, ["/bin/true", "true", [], "/", []]],
    ["spawn", "`words[1]` must be a string, got null", TypeError, ["/bin/true", ["true", null], [], "/", []]],
    ["spawn", "`environment[0]` must not contain NUL", RangeError, ["/bin/true", [], ["A=\0"], "/", []]],
    ["spawn", "`directory` must be a string, got a number", TypeError, ["/bin/true", [], [], 1, []]],
    ["spawn", "`fds` must be an array, got undefined", TypeError, ["/bin/true", [], [], "/"]],
    ["reap", "`pid` must be an integer from 1 to 2147483647, got 0", RangeError, [0]],
    ["execve", "`path` must be a string, got undefined", TypeError, []],
    ["execve", "`words[0]` must be a string, got a number", TypeError, ["/nowhere", [1], [], []]],
    ["execve", "`environment[0]` must not contain NUL", RangeError, ["/nowhere", [], ["A=\0"], []]],
    ["execve", "`fds` must be an array, got undefined", TypeError, ["/nowhere", [], []]],
    ["exitAtOnce", "`code` must be an integer from 0 to 255, got 256", RangeError, [256]],
    ["pidfdOpen", "`pid` must be an integer from 1 to 2147483647, got 0", RangeError, [0]],
    ["pidfdKill", `${fdWords} undefined`, TypeError, []],
    ["pidfdKill", "`signal` must be an integer from 0 to 64, got 65", RangeError, [1, 65]],
    ["memfdCreate", "`name` must be a string, got a number", TypeError, [1]],
    ["memfdSeal", `${fdWords} Infinity`, RangeError, [Infinity]],
    ["memfdSealed", `${fdWords} an array`, TypeError, [[]]],
  ])("a wrong argument of %s is refused: %s", (name, message, kind, args) => {
    expect(thrownBy(native()[name], args)).toEqual([kind, `${name}: ${message}`]);
  });

  it("a wrong argument of a watcher is refused", () => {
    const { Watcher } = native();
    const [left, right] = pair();
    const make = (...args: unknown[]): unknown => Reflect.construct(Watcher, args);
    expect(thrownBy(make, ["1", nothing])).toEqual([TypeError, `Watcher: ${fdWords} a string`]);
    expect(thrownBy(make, [left])).toEqual([
      TypeError,
      "Watcher: `callback` must be a function, got undefined",
    ]);
    expect(thrownBy(Watcher, [left, nothing])).toEqual([
      TypeError,
      "Class constructors cannot be invoked without 'new'",
    ]);

    const watcher = new Watcher(right, nothing);
    expect(thrownBy(watcher.watch.bind(watcher), [8])).toEqual([
      RangeError,
      "watch: `events` must be an integer from 0 to 7, got 8",
    ]);
    expect(thrownBy(watcher.watch.bind({}), [1])).toEqual([TypeError, "Illegal invocation"]);
    watcher.close();
  });
});

function thrownBy(call: unknown, args: unknown[]): unknown {
  try {
    assert(typeof call === "function");
    return Reflect.apply(call, undefined, args);
  } catch (error) {
    return error instanceof Error ? [error.constructor, error.message] : error;
  }
}

function nothing(): void {}

function own(fd: number): number {
  owned.add(ok(fd));
  return fd;
}

function close(fd: number): void {
  owned.delete(fd);
  expect(native().close(fd)).toBe(0);
}

function ok<T>(result: T | number): T {
  return check(result, "do", "what the test needs");
}

function pair(): [number, number] {
  const [left, right] = ok(native().socketpair());
  return [own(left), own(right)];
}

function receive(fd: number, size = 100): Received {
  const received = ok(native().receive(fd, Buffer.alloc(size)));
  received.fds.forEach(own);
  return received;
}

function text(fd: number): string {
  const buffer = Buffer.alloc(100);
  const { size } = ok(native().receive(fd, buffer));
  return buffer.toString("latin1", 0, size);
}

function flags(fd: number): number {
  const line = /^flags:\s*(\d+)$/m.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, "latin1"));
  return Number.parseInt(line?.[1] ?? "", 8);
}

function openDescriptors(): string[] {
  return fs.readdirSync("/proc/self/fd");
}

async function connects(client: Socket): Promise<boolean> {
  await once(client, "connect");
  client.destroy();
  await once(client, "close");
  return !client.errored;
}

function withUmask(mask: number, bind: () => void): void {
  const before = process.umask(mask);
  try {
    bind();
  } finally {
    process.umask(before);
  }
}

/** Enough turns of the event loop for what is ready to have been delivered, and closed handles to be gone. */
async function turns(): Promise<void> {
  for (let i = 0; i < 5; i++) await turn();
}

/** What the first callback got, and made of it. */
function watching<T>(
  fd: number,
  wanted: number,
  inspect?: () => T,
): Promise<{ events: number; result: T | undefined }> {
  return new Promise((resolve) => {
    const watcher = new (native().Watcher)(fd, (events) => {
      watcher.close();
      resolve({ events, result: inspect?.() });
    });
    watcher.watch(wanted);
  });
}

/** A descriptor for the server's end of a TCP connection, which only this process holds, and the client's end. */
async function accepted(): Promise<{ fd: number; peer: Socket }> {
  const server = createServer({ pauseOnConnect: true }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const peer = connect((server.address() as AddressInfo).port, "127.0.0.1");
  const [[socket]] = (await Promise.all([once(server, "connection"), once(peer, "connect")])) as [
    [Socket],
    [],
  ];
  const fd = own(native().duplicate((socket as unknown as { _handle: { fd: number } })._handle.fd));
  socket.destroy();
  server.close();
  // The server's end may be closed with data that it has not read.
  peer.on("error", nothing);
  onTestFinished(async () => {
    if (peer.closed) return;
    peer.destroy();
    await once(peer, "close");
  });
  return { fd, peer };
}

/** What has been written to a connection and read from it since it was made. */
function use(fd: number): { written: number; read: number } {
  const { acked, unsent, received, unread } = counters(fd);
  return { written: acked + unsent, read: received - unread };
}

function counters(fd: number): Record<"acked" | "received" | "unsent" | "unread", number> {
  const counted = new Float64Array(4);
  check(native().connectionCounters(fd, counted), "count", "a connection");
  const [acked, received, unsent, unread] = counted as unknown as [number, number, number, number];
  return { acked, received, unsent, unread };
}

/** Writes until there is no room. How much that was. */
function fill(fd: number): number {
  const chunk = Buffer.alloc(100_000);
  for (let written = 0; ;) {
    try {
      written += fs.writeSync(fd, chunk);
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, "EAGAIN");
      return written;
    }
  }
}

/** Resolves when the descriptor is readable. */
async function readable(fd: number): Promise<void> {
  await watching(fd, POLL.readable);
}

/** Starts a fixture whose descriptor 3 is `fd`. It is killed at the end of the test. */
function holding(
  fixture: string,
  fd: number,
  words = [process.execPath],
  args: string[] = [],
): ChildProcessByStdio<Writable, Readable, null> {
  const path = fileURLToPath(new URL(`../fixtures/native/${fixture}`, import.meta.url));
  const child = spawn(words[0]!, [...words.slice(1), path, ...args], {
    stdio: ["pipe", "pipe", "inherit", fd],
  });
  const ended = once(child, "close");
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await ended;
  });
  return child as ChildProcessByStdio<Writable, Readable, null>;
}

async function outputOf(child: ChildProcessByStdio<Writable, Readable, null>): Promise<string> {
  return (await child.stdout.setEncoding("utf8").toArray()).join("");
}

const inPidNamespace = ["unshare", "--pid", "--fork", "--kill-child", process.execPath];

async function run(fixture: string, before = "exec") {
  const path = fileURLToPath(new URL(`../fixtures/native/${fixture}`, import.meta.url));
  const child = spawn("sh", ["-c", `${before} "$0" "$1"`, process.execPath, path]);
  const output = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (part: string) => (output.stdout += part));
  child.stderr.setEncoding("utf8").on("data", (part: string) => (output.stderr += part));
  await once(child, "close");
  return { code: child.exitCode, signal: child.signalCode, ...output };
}
