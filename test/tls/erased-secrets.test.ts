import { once } from "node:events";
import { connect, type TLSSocket } from "node:tls";
import { expect, onTestFinished, test } from "vitest";
import { suiteOf } from "../../dist/tls/cipher-suites.js";
import { expandLabel } from "../../dist/tls/key-schedule.js";
import { Client, selfSigned } from "../support/client.js";
import { countInMemory } from "../support/memory-search.js";
import { asRoot, isSkipped } from "../support/root.js";
import { brief, Service } from "../support/service.js";

/** Of one connection, by its own log of keys. */
interface Secrets {
  /** Of both directions, and the exporter's. */
  readonly secrets: Buffer[];
  /** The same, in the digits in which Node logs them. */
  readonly digits: Buffer[];
  /** The keys and the IVs of both directions. */
  readonly keys: Buffer[];
}

const LABELS = ["CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0", "EXPORTER_SECRET"];

test.skipIf(isSkipped)(
  `secrets are in the memory of a process as long as it has their connection${asRoot}`,
  async () => {
    const secure = { keepAliveTimeout: 600_000 };
    const settings = { ...brief, ...selfSigned(), protocol: "https", drainTimeout: 600_000, secure };
    const service = Service.start("any-protocol.js", { settings });
    const port = (await service.until("accepting")).port as number;
    const [speaking, silent] = [await open(port), await open(port)];
    const first = await ask(speaking.socket);
    await ask(silent.socket);
    const all = [speaking.secrets, silent.secrets];
    const count = (pid: number): number[][] => countAll(pid, all);
    const [secrets, digits, keys] = [3, 3, 4];
    // OpenSSL has the secrets; and LoggedSecrets their digits.
    expect(count(first).map(([some, logged]) => [some, logged])).toEqual([
      [secrets, digits],
      [secrets, digits],
    ]);

    await keepAlive(service, port);
    const second = (await service.upgrade()).pid;
    while ((await ask(speaking.socket)) !== second);
    // The silent one has no keys yet.
    await expect
      .poll(() => count(second))
      .toEqual([
        [secrets, 0, keys],
        [secrets, 0, 0],
      ]);
    // OpenSSL frees its secrets, and does not erase them: they are there until their memory is used again.
    await expect.poll(() => count(first).map(([, logged]) => logged)).toEqual([0, 0]);
    for (const [left] of count(first)) expect(left).toBeLessThanOrEqual(secrets);

    await service.confirmed(1);
    await keepAlive(service, port);
    const third = (await service.upgrade()).pid;
    while ((await ask(speaking.socket)) !== third);
    await expect
      .poll(() => count(third))
      .toEqual([
        [secrets, 0, keys],
        [secrets, 0, 0],
      ]);
    await expect
      .poll(() => count(second))
      .toEqual([
        [0, 0, 0],
        [0, 0, 0],
      ]);

    for (const { socket } of [speaking, silent]) socket.end();
    await expect
      .poll(() => count(third))
      .toEqual([
        [0, 0, 0],
        [0, 0, 0],
      ]);
  },
);

async function open(port: number): Promise<{ socket: TLSSocket; secrets: Secrets }> {
  const socket = connect({ port, host: "127.0.0.1", rejectUnauthorized: false });
  onTestFinished(() => void socket.destroy());
  const logged = new Map<string, string>();
  socket.on("keylog", (line: Buffer) => {
    const [label, , secret] = String(line).trim().split(" ") as [string, string, string];
    logged.set(label, secret);
  });
  await once(socket, "secureConnect");
  const suite = suiteOf(socket.getCipher().standardName)!;
  const texts = LABELS.map((label) => logged.get(label)!);
  const secrets = texts.map((text) => Buffer.from(text, "hex"));
  const keys = secrets
    .slice(0, 2)
    .flatMap((secret) => [
      expandLabel(suite, secret, "key", Buffer.alloc(0), suite.keyLength),
      expandLabel(suite, secret, "iv", Buffer.alloc(0), 12),
    ]);
  return { socket, secrets: { secrets, digits: texts.map((text) => Buffer.from(text)), keys } };
}

/** For each connection: the copies of secrets and of their digits, and how many of its keys are there. */
function countAll(pid: number, all: readonly Secrets[]): number[][] {
  const found = countInMemory(
    pid,
    all.flatMap(({ secrets, digits, keys }) => [...secrets, ...digits, ...keys]),
  );
  return all.map(({ secrets, digits, keys }) => [
    sum(found.splice(0, secrets.length)),
    sum(found.splice(0, digits.length)),
    sum(found.splice(0, keys.length).map(Math.sign)),
  ]);
}

function sum(counts: number[]): number {
  return counts.reduce((total, one) => total + one);
}

/** The pid of the process that answers. */
async function ask(socket: TLSSocket): Promise<number> {
  socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  const [answer] = (await once(socket, "data")) as [Buffer];
  return Number(/\d+$/.exec(String(answer))![0]);
}

/** By half a request on another connection, for which the accepting process drains until the end of the test. */
async function keepAlive(service: Service, port: number): Promise<void> {
  const from = service.lines.length;
  const client = await Client.openTls(port);
  client.socket.write("GET / HTTP/1.1\r\nHo");
  await service.until("secure connection", {}, from);
}
