import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { readAll, target } from "../support/client.js";
import { fixturePath, limited } from "../support/faults.js";
import { brief, Service, temporaryDirectory } from "../support/service.js";

describe("an added descriptor, whose owner has closed its own", () => {
  test("an added file is inherited, and every generation writes to it", async () => {
    const path = join(temporaryDirectory(), "log");
    const { service } = await start({ kind: "file", path });
    await service.replace();
    await service.replace();
    expect(readFileSync(path, "utf8")).toBe("generation 1\ngeneration 2\n");
  });

  test("an added pipe is inherited", async () => {
    const { service } = await start({ kind: "pipe" });
    for (const generation of [1, 2]) {
      await service.replace();
      const line = await service.until("piped", { text: `generation ${generation}` });
      expect(line).not.toHaveProperty("pid");
    }
  });

  test("an added connection is inherited", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    onTestFinished(() => void server.close());
    await once(server, "listening");
    const connected = once(server, "connection") as Promise<[Socket]>;
    const { service } = await start({ kind: "conn", port: (server.address() as AddressInfo).port });
    const [socket] = await connected;
    onTestFinished(() => void socket.destroy());
    for (const generation of [1, 2]) {
      const text = once(socket, "data");
      await service.replace();
      expect(String(await text)).toBe(`generation ${generation}`);
    }
  });

  test("an added listener is inherited", async () => {
    const { service, address } = await start({ kind: "listener" });
    await service.replace();
    expect(await readAll(target(address))).toBe("generation 1");
  });

  test("an added datagram socket is inherited", async () => {
    const { service, address } = await start({ kind: "packetConn" });
    await service.replace();
    const client = createSocket("udp4");
    onTestFinished(() => void client.close());
    const answer = once(client, "message");
    client.send("?", address.port, "127.0.0.1");
    expect(String((await answer)[0])).toBe("generation 1");
  });
});

test("fds.file() gives a descriptor to its caller once, and the next generation inherits it again", async () => {
  const service = Service.start("takes-files.js", {
    settings: {
      ...brief,
      take: [
        ["a", "c"],
        ["c", "b"],
      ],
    },
  });
  await service.until("accepting");
  await service.replace();
  await service.replace();
  const taken = service.lines.filter(({ event }) => event === "taken");
  expect(taken.map(({ generation, name, fds }) => [generation, name, fds])).toEqual([
    [1, "a", ["number", "undefined"]],
    [1, "c", ["number", "undefined"]],
    [2, "c", ["number", "undefined"]],
    // Nobody had asked for it in generation 1.
    [2, "b", ["undefined", "undefined"]],
  ]);
});

test("ready() closes the inherited descriptors that were not asked for", async () => {
  const service = Service.start("takes-files.js", { settings: brief });
  await service.until("accepting");
  const taking = Service.start("takes-files.js", { settings: { ...brief, all: true } });
  await taking.until("accepting");
  const { pid, late } = await service.replace();
  expect(late).toBe("undefined");
  const { pid: takingPid } = await taking.replace();
  // What was added is /dev/null, of which one that has added nothing has as many.
  const plain = Service.start("http.js");
  await plain.until("accepting");
  expect(filesOf(pid)).toBe(filesOf(plain.pid));
  // Three duplicates are the program's, and three wait for the next generation.
  expect(filesOf(takingPid)).toBe(filesOf(plain.pid) + 6);
});

test("fds.files() returns the inherited files that are not in use", async () => {
  const service = Service.start("takes-files.js", { settings: { ...brief, take: [["b"]], all: true } });
  await service.until("accepting");
  await service.replace();
  expect(await service.until("files", { generation: 0 })).toMatchObject({ names: [] });
  expect(await service.until("files", { generation: 1 })).toMatchObject({ names: ["a", "c"] });
});

test("upg.fds refuses a descriptor that it cannot add, says why, and returns undefined for an unknown name", async () => {
  const service = Service.start("adds-what-is-refused.js");
  await service.ended();
  const refusals = service.lines.filter(({ event }) => event === "refused");
  expect(refusals.map(({ what, code, message }) => [what, code, message])).toEqual([
    ["taken name", "ERR_DESCRIPTOR", 'cannot add "taken": there is a descriptor of that name already'],
    ["empty name", "ERR_OPTION", "the option \"name\" must be a string of 1 to 256 characters, not ''"],
    [
      "long name",
      "ERR_OPTION",
      expect.stringMatching(/^the option "name" must be a string of 1 to 256 char/),
    ],
    ["name of the library", "ERR_OPTION", RESERVED],
    ["listener of the library", "ERR_OPTION", RESERVED],
    ["no descriptor", "ERR_DESCRIPTOR", "cannot use descriptor 999: it is not open"],
    ["no number", "ERR_DESCRIPTOR", "cannot use descriptor '0': it is not open"],
    ["no socket", "ERR_DESCRIPTOR", 'cannot add "file": descriptor 0 is a file, not a listener'],
    [
      "no datagrams",
      "ERR_DESCRIPTOR",
      expect.stringMatching(/^cannot add "listener": descriptor \d+ is a listener, not a packetConn$/),
    ],
    ["no connection", "ERR_DESCRIPTOR", "cannot find the descriptor of a connection: it is not open"],
    ["no name", "ERR_OPTION", 'the option "name" must be a string of 1 to 256 characters, not undefined'],
    ["no socket object", "ERR_OPTION", 'the option "socket" must be a net.Socket, not undefined'],
    ["late", "ERR_STOPPED", "cannot add a descriptor: this process is stopping"],
  ]);
  expect(await service.until("added")).toMatchObject({ what: "longest name" });
  expect(await service.until("nothing")).toMatchObject({ all: true, files: 0 });
  expect(service.noise).toBe("");
});

test("an error of the system is the cause of a HandoverError", async () => {
  const script = fixturePath("adds-without-room.js");
  const command = limited(64, [process.execPath, script, JSON.stringify(brief)]);
  const service = Service.start("", { command });
  await service.replace();
  expect(service.lines.filter(({ event }) => event === "refused" || event === "done")).toMatchObject([
    {
      what: "add",
      name: "HandoverError",
      code: "ERR_DESCRIPTOR",
      message: "cannot duplicate descriptor 0: EMFILE",
      cause: "EMFILE",
    },
    {
      what: "stream",
      name: "HandoverError",
      code: "ERR_DESCRIPTOR",
      message: expect.stringMatching(/^cannot make a socket of "packets": /),
      cause: "ERR_INVALID_FD_TYPE",
    },
    {
      what: "take",
      name: "HandoverError",
      code: "ERR_DESCRIPTOR",
      message: "cannot duplicate the descriptor of file: EMFILE",
      cause: "EMFILE",
    },
  ]);
});

test("files() passes over the control socket", async () => {
  const controlSocket = join(temporaryDirectory(), "control");
  const service = Service.start("takes-files.js", { settings: { ...brief, all: true, controlSocket } });
  await service.until("accepting");
  await service.replace();
  expect(await service.until("files", { generation: 1 })).toMatchObject({ names: ["a", "b", "c"] });
});

const RESERVED =
  'the name of a descriptor cannot be "handover:control": names that begin with "handover:" are reserved for handover itself';

async function start(settings: object): Promise<{ service: Service; address: AddressInfo }> {
  const service = Service.start("takes-descriptor.js", { settings: { ...brief, ...settings } });
  const { address } = await service.until("accepting");
  return { service, address: address as AddressInfo };
}

/** How many descriptors of /dev/null a process has. */
function filesOf(pid: number): number {
  const directory = `/proc/${pid}/fd`;
  const links = readdirSync(directory).map((fd) => readlinkSync(join(directory, fd)));
  return links.filter((link) => link === "/dev/null").length;
}
