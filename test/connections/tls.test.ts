import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { connect, type SecureVersion, type TLSSocket } from "node:tls";
import { describe, expect, onTestFinished, test } from "vitest";
import { Client, selfSigned } from "../support/client.js";
import { HoldingProxy } from "../support/holding-proxy.js";
import { Http2Client } from "../support/http2-client.js";
import { handover } from "../support/program.js";
import { brief, Service, temporaryDirectory } from "../support/service.js";
import { WebSocketClient } from "../support/websocket.js";

const versions: SecureVersion[] = ["TLSv1.2", "TLSv1.3"];

test.each(versions)("a client of %s resumes its session after upgrades", async (version) => {
  const { service, port } = await start(selfSigned(), { drainTimeout: 0 });
  const { session } = await visit(port, version);
  await service.replace();
  const second = await visit(port, version, session);
  expect(second.isReused).toBe(true);
  await service.replace();
  expect(await visit(port, version, second.session)).toMatchObject({ isReused: true });
});

test.each(versions)(
  "a client of %s resumes after an upgrade the session of a server that had got another certificate",
  async (version) => {
    const { service, port } = await start(selfSigned(), { renews: selfSigned(), drainTimeout: 0 });
    const former = await visit(port, version);
    const client = await Client.openTls(port);
    await client.ask("/renew");
    const renewed = await visit(port, version);
    // As without handover, a server's keys of tickets are new with its certificate.
    expect(await visit(port, version, former.session)).toMatchObject({ isReused: false });
    await service.replace();
    expect(await visit(port, version, renewed.session)).toMatchObject({ isReused: true });
    expect(await visit(port, version, former.session)).toMatchObject({ isReused: false });
  },
);

test.each(versions)("a client of %s does not resume with keys of another server", async (version) => {
  const identity = selfSigned();
  const [one, other] = [
    await start(identity, { drainTimeout: 0 }),
    await start(identity, { drainTimeout: 0 }),
  ];
  const { session } = await visit(one.port, version);
  expect(await visit(other.port, version, session)).toMatchObject({ isReused: false });
});

describe.each(["https", "h2"])("a connection of HTTP/1.1 to a server of %s", (protocol) => {
  test(`idle and busy connections to a server of ${protocol} move at each of three upgrades`, async () => {
    const { service, port } = await start(selfSigned(), { protocol });
    const [idle, busy, silent] = [
      await Client.openTls(port),
      await Client.openTls(port),
      await Client.openTls(port),
    ];
    for (let generation = 0; generation < 3; generation++) {
      const { pid } = service.accepting!;
      expect(await idle.ask()).toBe(String(pid));
      busy.request("/when-draining");
      await service.until("request", { pid, url: "/when-draining" });
      await service.replace();
      expect(await busy.answer()).toBe(String(pid));
      expect(await service.until("exit", { generation })).toMatchObject({
        moved: 3,
        stayed: {},
        destroyed: 0,
      });
    }
    const pid = String(service.accepting!.pid);
    expect(await Promise.all([idle, busy, silent].map((client) => client.ask()))).toEqual([pid, pid, pid]);
  });
});

test("a request of which a half has arrived is answered, and then its connection moves", async () => {
  const { service, port } = await start(selfSigned());
  const [client, other] = [await Client.openTls(port), await Client.openTls(port)];
  expect(await client.ask()).toBe(String(service.pid));
  client.socket.write("GET / HTTP/1.1\r\nHo");
  // By the time that this one is answered, the half has been read.
  expect(await other.ask()).toBe(String(service.pid));
  await service.upgrade();
  client.socket.write("st: a\r\n\r\n");
  expect(await client.answer()).toBe(String(service.pid));
  await service.until("exited", { generation: 0 });
  expect(await client.ask()).toBe(String(service.accepting!.pid));
});

test("a connection that has moved moves on in the middle of the record of its next request", async () => {
  const { service, port } = await start(selfSigned());
  const proxy = await HoldingProxy.open(port);
  const client = await Client.openTls(proxy.port);
  expect(await client.ask()).toBe(String(service.pid));
  await service.replace();
  proxy.hold();
  client.request("/");
  for (let generation = 1; generation <= 3; generation++) {
    await proxy.pass(7);
    await service.replace();
    const exit = await service.until("exit", { generation });
    expect(exit).toMatchObject({ moved: 1, stayed: {}, destroyed: 0 });
  }
  proxy.goOn();
  expect(await client.answer()).toBe(String(service.accepting!.pid));
});

test("a connection that has moved, and whose client has only renewed its keys since, moves on", async () => {
  const { service, port } = await start(selfSigned());
  const client = spawn("openssl", ["s_client", "-connect", `127.0.0.1:${port}`], {
    stdio: ["pipe", "ignore", "pipe"],
  });
  onTestFinished(() => void client.kill("SIGKILL"));
  client.stdin.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await service.until("request");
  await service.replace();
  client.stdin.write("k\n");
  // It has woken.
  await service.until("secure connection", { generation: 1 });
  await service.replace();
  expect(await service.until("exit", { generation: 1 })).toMatchObject({
    moved: 1,
    stayed: {},
    destroyed: 0,
  });
  client.stdin.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await service.until("request", { generation: 2 });
});

test("a silent connection that has moved ends with close_notify when its server stops", async () => {
  const { service, port } = await start();
  const client = spawn("python3", ["-c", READS_TO_THE_END, String(port)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => void client.kill("SIGKILL"));
  let shown = "";
  client.stdout.setEncoding("utf8").on("data", (text: string) => (shown += text));
  const closed = once(client, "close");
  await service.until("request");
  await service.replace();
  process.kill(service.accepting!.pid, "SIGTERM");
  // Python fails if a connection ends without it.
  expect(await closed).toEqual([0, null]);
  expect(shown).toBe("0\n");
});

test("connections move that were accepted before and after the server got another certificate", async () => {
  const { service, port } = await start(selfSigned(), { renews: selfSigned() });
  const before = await Client.openTls(port);
  await before.ask("/renew");
  const clients = [before, await Client.openTls(port)];
  const certificates = clients.map(({ socket }) => (socket as TLSSocket).getPeerCertificate().fingerprint256);
  expect(new Set(certificates).size).toBe(2);
  await Promise.all(clients.map((client) => client.ask()));
  await service.replace();
  expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 2, stayed: {} });
  const pid = String(service.accepting!.pid);
  expect(await Promise.all(clients.map((client) => client.ask()))).toEqual([pid, pid]);
});

test("secrets of a connection are in no output of its processes, and in no answer to a command", async () => {
  const service = Service.start("any-protocol.js", {
    settings: { ...brief, ...selfSigned(), protocol: "https" },
    env: { NODE_DEBUG: "handover,net,http,stream" },
  });
  const { port } = await service.until("accepting");
  const secrets: string[] = [];
  const socket = connect({ port: port as number, host: "127.0.0.1", rejectUnauthorized: false });
  onTestFinished(() => void socket.destroy());
  socket.on("keylog", (line: Buffer) => secrets.push(String(line).trim().split(" ")[2]!));
  let shown = "";
  for (let generation = 0; generation < 3; generation++) {
    socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await once(socket, "data");
    for (const command of ["status", "list"]) shown += (await handover(command, "--json")).stdout;
    if (generation < 2) await service.replace();
  }
  expect(secrets).toHaveLength(5);
  const output = `${service.transcript()}\n${shown}`;
  expect(output).toContain("HANDOVER");
  for (const secret of secrets) {
    const bytes = Buffer.from(secret, "hex");
    const pairs = secret.match(/../g)!.join(" ");
    for (const form of [
      secret,
      secret.toUpperCase(),
      pairs,
      bytes.toString("base64"),
      bytes.toString("base64url"),
    ])
      expect(output).not.toContain(form.slice(4, 40));
  }
});

test("the file of node --tls-keylog has the keys of connections, as their clients know them", async () => {
  const file = join(temporaryDirectory(), "keys");
  const { port } = await start(selfSigned(), {}, [`--tls-keylog=${file}`]);
  const lines: string[] = [];
  const socket = connect({ port, host: "127.0.0.1", rejectUnauthorized: false });
  onTestFinished(() => void socket.destroy());
  socket.on("keylog", (line: Buffer) => lines.push(String(line)));
  socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await once(socket, "data");
  expect(lines).toHaveLength(5);
  const written = (): string[] => readFileSync(file, "latin1").match(/.+\n/g)!.toSorted();
  await expect.poll(written).toEqual(lines.toSorted());
});

test("pipelined requests and a large response are whole after a move", async () => {
  const { service, port } = await start();
  const client = await Client.openTls(port);
  await client.ask();
  await service.replace();
  client.request("/", "/large");
  expect(await client.answer()).toBe(String(service.accepting!.pid));
  await client.until(/content-length: 16777216[^]*?\r\n\r\n/i);
  await client.receives(16 * 1024 * 1024);
  expect(client.text).toMatch(/^x+$/);
});

test("a WebSocket over TLS moves with its state at each of three upgrades", async () => {
  const service = Service.start("websocket-counter.js", { settings: { ...brief, ...selfSigned() } });
  const { port } = await service.until("accepting");
  const client = await WebSocketClient.open(`wss://127.0.0.1:${String(port)}`, { rejectUnauthorized: false });
  for (let generation = 0; generation < 4; generation++) {
    expect(await client.ask("a")).toBe(`${generation} ${2 * generation + 1} a`);
    expect(await client.ask("x".repeat(100_000))).toBe(
      `${generation} ${2 * generation + 2} ${"x".repeat(100_000)}`,
    );
    if (generation < 3) await service.replace();
  }
  expect(client.isClosed).toBe(false);
});

test("a program's own adapter moves its connections over TLS", async () => {
  const settings = { ...brief, ...selfSigned(), greets: -1 };
  const service = Service.start("greets-and-dies.js", { settings });
  const { port } = await service.until("accepting");
  const client = await Client.openTls(port as number);
  client.socket.write("a\n");
  expect(await client.until(/\n/)).toBe("0 1\n");
  await service.replace();
  client.socket.write("b\n");
  expect(await client.until(/\n[^]*\n/)).toBe("greeting\n1 2\n");
});

describe("a connection over TLS that cannot move is told to close, and counted:", () => {
  test("one of TLS 1.2", async () => {
    const { service, port } = await start();
    const client = await Client.openTls(port, { maxVersion: "TLSv1.2" });
    await client.ask();
    expect(await stays(service, client)).toEqual({ ERR_TLS_VERSION: 1 });
  });

  test("one with another cipher suite", async () => {
    const ciphers = "TLS_AES_128_CCM_SHA256";
    const secure = { ciphers: `${ciphers}:TLS_AES_128_GCM_SHA256` };
    const { service, port } = await start(selfSigned(), { secure });
    const client = await Client.openTls(port, { ciphers });
    await client.ask();
    expect(await stays(service, client)).toEqual({ ERR_TLS_CIPHER: 1 });
  });

  test("one with a client certificate that has sent no request", async () => {
    const identity = selfSigned();
    const secure = { requestCert: true, rejectUnauthorized: false };
    const { service, port } = await start(identity, { secure });
    const client = await Client.openTls(port, identity);
    await service.until("secure connection");
    await service.upgrade();
    expect(await client.ended).toBe("end");
    const exit = await service.until("exit", { generation: 0 });
    expect(exit).toMatchObject({ moved: 0, destroyed: 0, stayed: { ERR_TLS_CERTIFICATE: 1 } });
  });

  test.each([
    ["whose client pads its records", ["-record_padding", "512"], ""],
    ["whose client has renewed its keys", [], "k\n"],
  ])("one %s", async (_, options, command) => {
    const { service, port } = await start(selfSigned());
    const client = spawn("openssl", ["s_client", "-connect", `127.0.0.1:${port}`, ...options], {
      stdio: ["pipe", "ignore", "pipe"],
    });
    onTestFinished(() => void client.kill("SIGKILL"));
    const ended = once(client, "exit");
    client.stdin.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await service.until("request");
    client.stdin.write(command);
    if (command !== "") await untilSays(client.stderr, "KEYUPDATE");
    await service.upgrade();
    await ended;
    const exit = await service.until("exit", { generation: 0 });
    expect(exit).toMatchObject({ moved: 0, destroyed: 0, stayed: { ERR_TLS_RECORDS: 1 } });
  });

  test("one of HTTP/2", async () => {
    const { service, port } = await start(selfSigned(), { protocol: "h2" });
    const client = await Http2Client.open(port, "h2");
    await client.answer(client.request("/"));
    await service.upgrade();
    await client.ended;
    expect(client.goaways).not.toEqual([]);
    expect(await service.until("exit", { generation: 0 })).toMatchObject({ stayed: { ERR_HTTP2: 1 } });
  });

  test("one whose self-test fails", async () => {
    const nodeArgs = [
      "--import",
      "data:text/javascript,import tls from 'node:tls'; tls.connect = () => { throw new Error('no client') }",
    ];
    const { service, port } = await start(selfSigned(), {}, nodeArgs);
    const client = await Client.openTls(port);
    await client.ask();
    expect(await stays(service, client)).toEqual({ ERR_TLS_SELF_TEST: 1 });
    expect(service.noise).toMatch(
      /\[HANDOVER_TLS\] Warning: the connections of a TLS server do not move, and drain instead: the self-test failed: no client/,
    );
  });

  test("one that the successor does not take", async () => {
    const { service, port } = await start(selfSigned(), { next: { tls: false } });
    const client = await Client.openTls(port);
    await client.ask();
    expect(await stays(service, client)).toEqual({ ERR_NO_TAKER: 1 });
  });
});

test("a connection moves although the system lacked descriptors for the self-test as the upgrade was prepared", async () => {
  const nodeArgs = [
    "--import",
    "data:text/javascript,import tls from 'node:tls'; const { connect } = tls; tls.connect = () => { tls.connect = connect; throw Object.assign(new Error('too many open files'), { code: 'EMFILE' }) }",
  ];
  const { service, port } = await start(selfSigned(), {}, nodeArgs);
  const client = await Client.openTls(port);
  await client.ask();
  await service.replace();
  expect(await service.until("exit", { generation: 0 })).toMatchObject({ moved: 1, stayed: {} });
  expect(await client.ask()).toBe(String(service.accepting!.pid));
});

test.each([
  ["of the Upgrader", { tls: false }],
  ["of listen()", { listen: { tls: false } }],
])("connections over TLS drain where the option tls %s is false", async (_, settings) => {
  const { service, port } = await start(selfSigned(), settings);
  const client = await Client.openTls(port);
  await client.ask();
  expect(await stays(service, client)).toEqual({});
});

async function untilSays(stream: Readable, word: string): Promise<void> {
  for await (const text of stream) if (String(text).includes(word)) return;
}

const READS_TO_THE_END = `
import socket, ssl, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
secure = ssl._create_unverified_context().wrap_socket(connection, suppress_ragged_eofs=False)
secure.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
while not secure.recv(65536).startswith(b"HTTP/1.1 200"): pass
while secure.recv(65536): pass
print(0)
`;

/** Upgrades, and expects that the client is told to close with its next response. Returns the codes that were counted. */
async function stays(service: Service, client: Client): Promise<unknown> {
  await service.upgrade();
  await service.until("draining");
  client.request("/");
  expect(await client.response()).toMatchObject({ closes: true, body: String(service.pid) });
  expect(await client.ended).toBe("end");
  const { stayed, destroyed, moved } = await service.until("exit", { generation: 0 });
  expect({ destroyed, moved }).toEqual({ destroyed: 0, moved: 0 });
  return stayed;
}

async function start(
  identity = selfSigned(),
  settings: object = {},
  nodeArgs: string[] = [],
): Promise<{ service: Service; port: number }> {
  const service = Service.start("any-protocol.js", {
    settings: { ...brief, ...identity, protocol: "https", ...settings },
    nodeArgs,
  });
  const { port } = await service.until("accepting");
  return { service, port: port as number };
}

/** One connection: whether it resumed a session, and the newest one to resume. */
async function visit(
  port: number,
  version: SecureVersion,
  session?: Buffer,
): Promise<{ isReused: boolean; session: Buffer }> {
  const range = { minVersion: version, maxVersion: version };
  const given = session === undefined ? {} : { session };
  const socket = connect({ port, host: "127.0.0.1", rejectUnauthorized: false, ...range, ...given });
  onTestFinished(() => void socket.destroy());
  let newest = session;
  socket.on("session", (one) => (newest = one));
  await once(socket, "secureConnect");
  expect(socket.getProtocol()).toBe(version);
  socket.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  // With TLS 1.3 a session comes after the handshake.
  socket.resume();
  await once(socket, "end");
  return { isReused: socket.isSessionReused(), session: newest! };
}
