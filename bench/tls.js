// What TLS that moves costs. A handshake and one request on a connection that never moves, beside the same server with
// `tls: false`; and requests, downloads and uploads on connections that have moved, beside connections of the same process
// that it has accepted. CPU time of the server. Both sides take part in each of many short rounds, and the median of their
// ratios counts, as the speed of a machine drifts.
//
//   npm run bench:tls [-- --runs 20] [--json] [--check]
//
// --check fails if a ratio misses its goal by more than a margin for the noise of the machine.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import { endAll, fail } from "./at-end.js";
import { FLAG, readOptions, wholeNumber } from "./options.js";
import { startService } from "./service-harness.js";
import { progress, reportRatios } from "./statistics.js";

const { runs, json, check } = readOptions(import.meta.url, {
  runs: wholeNumber(20),
  json: FLAG,
  check: FLAG,
});

const SUITES = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"];
const MiB = 2 ** 20;

/** Each figure: how it is printed, the ratio that it must not exceed, and the margin of --check. */
const FIGURES = {
  handshake: { name: "handshake and request, µs", most: 1.03, margin: 0.04 },
  request: { name: "request of 1 KB, µs", most: 1.5, margin: 0.15 },
  download: { name: "download, µs per MB", most: 1.3, margin: 0.15 },
  upload: { name: "upload, µs per MB", most: 1.3, margin: 0.15 },
};

const HANDSHAKES = 250;
const REQUESTS = 2_000;
const TRANSFERS = 60;
const CLIENTS = 8;

/** By figure: for each round, both values. */
const measured = Object.fromEntries(Object.keys(FIGURES).map((name) => [name, []]));
const identity = selfSigned();

try {
  await measureHandshakes();
  await measureMoved();
  progress("");
  const sides = ["without", "with"];
  const title = `CPU time, ${runs} rounds`;
  reportRatios(FIGURES, measured, { sides, settings: { runs }, title, json, check });
} finally {
  await endAll();
}

/** The first round of each measurement is not counted: the code is not compiled yet. */
async function measureHandshakes() {
  const pair = [await start("no"), await start("yes")];
  await inRounds("handshake", pair, HANDSHAKES, async ({ port }) => {
    const client = await open(port, SUITES[1]);
    await client.get(1_024);
    client.end();
  });
  await Promise.all(pair.map(end));
}

/** Both kinds of connections belong to one process. */
async function measureMoved() {
  const service = await start("yes");
  const kinds = [{ service }, { service }];
  kinds[1].clients = await openAll(service.port);
  process.kill(service.pid, "SIGHUP");
  ({ pid: service.pid } = await service.next("accepts"));
  await service.next("alone");
  kinds[0].clients = await openAll(service.port);
  const mega = Buffer.alloc(MiB, "x");
  await inRounds("request", kinds, REQUESTS, ({ clients }, n) => clients[n].get(1_024));
  await inRounds("download", kinds, TRANSFERS, ({ clients }, n) => clients[n].get(MiB));
  await inRounds("upload", kinds, TRANSFERS, ({ clients }, n) => clients[n].post(mega));
  for (const client of kinds.flatMap(({ clients }) => clients)) client.end();
  await end(service);
}

/** Measures `times` calls of `act` at each of two places, in turns. CPU time of the server for each call, in µs. */
async function inRounds(figure, pair, times, act) {
  for (let round = 0; round <= runs; round++) {
    progress(`${figure}: round ${round} of ${runs}`);
    const costs = new Map();
    for (const one of round % 2 === 0 ? pair : pair.toReversed()) {
      const service = one.service ?? one;
      const before = await cpu(service);
      let left = times;
      await Promise.all(
        Array.from({ length: CLIENTS }, async (_, n) => {
          while (left-- > 0) await act(one, n);
        }),
      );
      costs.set(one, ((await cpu(service)) - before) / times);
    }
    if (round > 0) measured[figure].push(pair.map((one) => costs.get(one)));
  }
}

async function cpu(service) {
  process.kill(service.pid, "SIGUSR2");
  return (await service.next("cost")).cpu;
}

async function start(moves) {
  const settings = { MOVES: moves, KEY: identity.key, CERT: identity.cert };
  const service = startService("tls-server.js", settings);
  const { port } = await service.next("accepts");
  return Object.assign(service, { port });
}

async function end(service) {
  service.end();
  await service.exited;
}

/** The suites in turns. */
function openAll(port) {
  return Promise.all(Array.from({ length: CLIENTS }, (_, n) => open(port, SUITES[n % SUITES.length])));
}

function lost() {
  fail("a connection was closed");
}

/** A client that has one connection, and asks for one thing at a time. */
async function open(port, ciphers) {
  const socket = connect({ port, host: "127.0.0.1", ciphers, rejectUnauthorized: false });
  socket.setNoDelay(true).on("error", ({ message }) => fail(`a connection failed: ${message}`));
  let [left, answered] = [0];
  socket.on("close", lost).on("data", (chunk) => {
    // Each answer comes with its head at once.
    if (left === 0) left = lengthOf(chunk);
    left -= chunk.length;
    if (left === 0) answered();
  });
  await new Promise((resolve) => socket.once("secureConnect", resolve));
  const ask = (...pieces) => {
    const answer = new Promise((resolve) => (answered = resolve));
    for (const piece of pieces) socket.write(piece);
    return answer;
  };
  return {
    get: (size) => ask(`GET /${size} HTTP/1.1\r\nhost: bench\r\n\r\n`),
    post: (body) => ask(`POST / HTTP/1.1\r\nhost: bench\r\ncontent-length: ${body.length}\r\n\r\n`, body),
    end: () => socket.off("close", lost).destroy(),
  };
}

/** Bytes of the answer that begins with this chunk. */
function lengthOf(chunk) {
  const head = chunk.toString("latin1", 0, chunk.indexOf("\r\n\r\n") + 4);
  return head.length + Number(/content-length: (\d+)/i.exec(head)[1]);
}

function selfSigned() {
  const directory = mkdtempSync(join(tmpdir(), "bench-tls-"));
  try {
    const [key, cert] = ["key", "cert"].map((name) => join(directory, name));
    const words =
      "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost".split(
        " ",
      );
    execFileSync("openssl", [...words, "-keyout", key, "-out", cert], { stdio: "pipe" });
    return { key: readFileSync(key, "utf8"), cert: readFileSync(cert, "utf8") };
  } finally {
    rmSync(directory, { recursive: true });
  }
}
