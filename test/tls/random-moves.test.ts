import { spawn, type ChildProcess } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { Agent, request } from "node:https";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { WebSocket } from "ws";
import { check, native } from "../../dist/platform/native.js";
import { selfSigned } from "../support/client.js";
import { CuttingProxy } from "../support/cutting-proxy.js";

/** At least. By hand: `HANDOVER_MOVES=2000 HANDOVER_NODES=/path/to/node20,/path/to/node24 npx vitest run test/tls/random-moves` */
const MOVES = Number(process.env["HANDOVER_MOVES"] ?? 200);
/** Of each client, at least. */
const ANSWERS = 3;
const NODES = (process.env["HANDOVER_NODES"] ?? process.execPath).split(",");

const FIXTURE = fileURLToPath(new URL("../fixtures/moves-at-random.js", import.meta.url));
const SUITES = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

test(`no client notices ${MOVES} moves of its connection at random moments`, async () => {
  const chain = await startChain();
  const proxy = await CuttingProxy.open(chain.port);
  onTestFinished(() => proxy.close());
  const clients = [
    ...Array.from({ length: 6 }, (_, n) => askOnAndOn(chain.port, SUITES[n % 3]!, chain)),
    ...Array.from({ length: 6 }, (_, n) => askOnAndOn(proxy.port, SUITES[n % 3]!, chain)),
    ...Array.from({ length: 3 }, (_, n) => sendOnAndOn(n === 0 ? chain.port : proxy.port, chain)),
  ];
  const counts = await Promise.all(clients);
  expect(chain.errors).toEqual([]);
  expect(Math.min(...counts)).toBeGreaterThanOrEqual(ANSWERS);
  console.log(
    `${chain.moved} moves, ${chain.movedFirst} of them from Node's own TLS; ${counts.reduce((a, b) => a + b)} answers`,
  );
  expect(chain.moved).toBeGreaterThanOrEqual(MOVES);
  expect(chain.movedFirst).toBeGreaterThan(0);
}, 600_000);

interface Chain {
  readonly port: number;
  readonly moved: number;
  /** By the process that accepts. */
  readonly movedFirst: number;
  readonly errors: string[];
}

function pair(): [number, number] {
  return check(native().socketpair(), "make", "a pair of sockets");
}

/** The first process accepts and moves its connections to the second; the second and the third move them to each other. */
async function startChain(): Promise<Chain> {
  const [first, second, third] = [pair(), pair(), pair()];
  const roles = [
    { fds: [first[0]], to: [3], from: [] },
    { fds: [first[1], second[0], third[1]], to: [4], from: [3, 5] },
    { fds: [second[1], third[0]], to: [4], from: [3] },
  ];
  const identity = selfSigned();
  const moves = [0, 0, 0];
  const errors: string[] = [];
  const children = roles.map(({ fds, to, from }, n) => {
    const settings = JSON.stringify({ ...identity, to, from, role: n });
    const child = spawn(NODES[n % NODES.length]!, [FIXTURE, settings], {
      stdio: ["pipe", "pipe", "pipe", ...fds],
    });
    onTestFinished(() => void child.kill("SIGKILL"));
    for (const fd of fds) native().close(fd);
    child.stderr!.on("data", (text: Buffer) => errors.push(String(text)));
    return child;
  });
  const ports = await Promise.all(children.map(async (child, n) => portOf(child, n, moves, errors)));
  return {
    port: ports[0]!,
    get moved() {
      return moves[0]! + moves[1]! + moves[2]!;
    },
    get movedFirst() {
      return moves[0]!;
    },
    errors,
  };
}

async function portOf(child: ChildProcess, n: number, moves: number[], errors: string[]): Promise<number> {
  return new Promise((resolve) => {
    createInterface({ input: child.stdout! }).on("line", (text) => {
      const { port, moved, error } = JSON.parse(text) as { port?: number; moved?: number; error?: string };
      if (port !== undefined) resolve(port);
      if (moved !== undefined) moves[n] = moved;
      if (error !== undefined) errors.push(error);
    });
  });
}

/** Requests of random size on one connection after another; the number of answers. Throws if one of them breaks. */
async function askOnAndOn(port: number, ciphers: string, chain: Chain): Promise<number> {
  let answers = 0;
  const isOver = (): boolean => chain.moved >= MOVES && answers >= ANSWERS;
  while (!isOver()) {
    // Of the second connection on, some resume the session.
    const agent = new Agent({ keepAlive: true, maxSockets: 1, ciphers, rejectUnauthorized: false });
    const ports = new Set<number>();
    for (let left = 1 + 6 * Math.random(); left > 0 && !isOver(); left--, answers++) {
      ports.add(await ask(port, agent));
    }
    agent.destroy();
    if (ports.size > 1) throw new Error("a connection was closed");
  }
  return answers;
}

/** One request; the client's port. */
async function ask(port: number, agent: Agent): Promise<number> {
  const size = Math.floor(Math.random() ** 3 * 100_000);
  const body = Math.random() < 0.5 ? randomBytes(Math.floor(Math.random() ** 3 * 100_000)) : undefined;
  const method = body === undefined ? "GET" : "POST";
  const asked = request({ port, host: "127.0.0.1", agent, path: `/${size}`, method });
  asked.end(body);
  const [response] = (await once(asked, "response")) as [import("node:http").IncomingMessage];
  const { localPort } = response.socket;
  let text = "";
  for await (const chunk of response) text += String(chunk);
  const digest = createHash("sha256")
    .update(body ?? "")
    .digest("hex");
  if (!text.startsWith(digest) || text.length !== digest.length + 3 + size) throw new Error("a wrong answer");
  return localPort!;
}

/** Numbered messages of random size on one WebSocket, which come back in order; their number. */
async function sendOnAndOn(port: number, chain: Chain): Promise<number> {
  const socket = new WebSocket(`wss://127.0.0.1:${port}`, {
    rejectUnauthorized: false,
    perMessageDeflate: false,
  });
  onTestFinished(() => socket.terminate());
  const closed = once(socket, "close").then(() => Promise.reject(new Error("a WebSocket was closed")));
  closed.catch(() => {});
  await Promise.race([once(socket, "open"), closed]);
  let n = 0;
  for (; chain.moved < MOVES || n < ANSWERS; n++) {
    const text = `${n} ${"x".repeat(Math.floor(Math.random() ** 3 * 60_000))}`;
    socket.send(text);
    const [data] = (await Promise.race([once(socket, "message"), closed])) as [Buffer];
    if (String(data) !== text) throw new Error("a wrong message");
  }
  return n;
}
