// What handover costs between upgrades: a server with it beside the same server without it. CPU time per request and
// requests per second on keep-alive connections, the same of WebSocket messages, and the resident memory of an idle
// connection: one that was accepted, and one that has moved and was used since. Each figure is measured in many short
// rounds. Both servers take part in each round, and the median of their ratios counts, as the speed of a machine drifts.
//
//   npm run bench:steady [-- --rounds 40] [--connections 8000] [--json] [--check]
//
// --check fails if a ratio misses its goal by more than a margin for the noise of the machine.
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";
import { endAll, fail } from "./at-end.js";
import { Client, requireDescriptors } from "./idle-clients.js";
import { FLAG, readOptions, wholeNumber } from "./options.js";
import { startService } from "./service-harness.js";
import { progress, reportRatios } from "./statistics.js";

const { rounds, connections, json, check } = readOptions(import.meta.url, {
  rounds: wholeNumber(40, 3),
  connections: wholeNumber(8_000, 10),
  json: FLAG,
  check: FLAG,
});

/** Each figure: how it is printed, the ratio to the bare server that it must reach, and the margin of --check. */
const FIGURES = {
  requestCpu: { name: "CPU time per request, µs", most: 1.03, margin: 0.04 },
  requestRate: { name: "requests per second", least: 0.98, margin: 0.1 },
  messageCpu: { name: "CPU time per message, µs", most: 1.03, margin: 0.04 },
  messageRate: { name: "messages per second", least: 0.98, margin: 0.1 },
  accepted: { name: "memory of an accepted connection, KiB", most: 1.05, margin: 0.1 },
  moved: { name: "memory of a moved connection, KiB", most: 1.05, margin: 0.1 },
};

/** Clients that ask at a time, and requests or messages of one measurement. */
const CLIENTS = 16;
const REQUESTS = 2_000;
const WARM_UP = 2_000;
/** ms in which a collector's threads return memory to the system. */
const SETTLE = 300;
/** A process for the memory of each takes seconds. */
const MEMORY_ROUNDS = Math.max(3, Math.ceil(rounds / 8));

const COLLECT = { COLLECT: "yes" };

/** By figure: for each round, the value of the bare server and that of the other. */
const measured = Object.fromEntries(Object.keys(FIGURES).map((name) => [name, []]));

requireDescriptors(connections + 200);
try {
  await measureSpeed("request", (port) => openClient(port));
  await measureSpeed("message", (port) => openWebSocket(port));
  await measureMemory();
  progress("");
  const sides = ["bare", "handover"];
  const settings = { rounds, connections };
  const title = `${rounds} rounds of ${REQUESTS}, ${connections} idle connections`;
  reportRatios(FIGURES, measured, { sides, settings, title, json, check });
} finally {
  await endAll();
}

/** The first round is not counted: the code is not compiled yet. */
async function measureSpeed(what, open) {
  const pair = [await start("nothing"), await start("handover")];
  for (const service of pair) {
    service.clients = await Promise.all(Array.from({ length: CLIENTS }, () => open(service.port)));
  }
  for (let round = 0; round <= rounds; round++) {
    progress(`${what}s: round ${round} of ${rounds}`);
    const order = round % 2 === 0 ? pair : pair.toReversed();
    for (const service of order) service.speed = await measureOnce(service);
    if (round === 0) continue;
    for (const figure of ["Cpu", "Rate"]) {
      measured[what + figure].push(pair.map(({ speed }) => speed[figure]));
    }
  }
  await Promise.all(pair.map(end));
}

async function measureOnce(service) {
  const before = await cost(service);
  const began = performance.now();
  let left = REQUESTS;
  await Promise.all(
    service.clients.map(async (client) => {
      while (left-- > 0) await client.ask();
    }),
  );
  const took = performance.now() - began;
  const after = await cost(service);
  return { Cpu: (after.cpu - before.cpu) / REQUESTS, Rate: (REQUESTS / took) * 1_000 };
}

/** A new process for each: what an earlier measurement has left would be reused. */
async function measureMemory() {
  for (let round = 1; round <= MEMORY_ROUNDS; round++) {
    progress(`memory: round ${round} of ${MEMORY_ROUNDS}`);
    const [bare, accepted] = [await start("nothing", COLLECT), await start("handover", COLLECT)];
    const figures = [await growth(bare), await growth(accepted)];
    const moved = await growthOfMoved(accepted);
    measured.accepted.push(figures);
    measured.moved.push([figures[0], moved]);
    await Promise.all([bare, accepted].map(end));
  }
}

/** KiB for each connection, after one request on it. */
async function growth(service) {
  const rss = await warmUp(service);
  service.clients = await openUsed(service, connections);
  return ((await memory(service)) - rss) / 1024 / connections;
}

/** What the first connections need once is not theirs: compiled code, and the heap's least size. Returns the memory. */
async function warmUp(service) {
  for (const client of await openUsed(service, WARM_UP)) client.end();
  return memory(service);
}

/** Bytes. A second collection frees what the first has only found. */
async function memory(service) {
  await cost(service);
  await sleep(SETTLE);
  return (await cost(service)).rss;
}

async function openUsed({ port }, count) {
  const used = [];
  while (used.length < count) {
    const some = Array.from({ length: Math.min(100, count - used.length) }, () => openClient(port));
    used.push(...(await Promise.all(some)));
    await Promise.all(used.slice(-some.length).map((client) => client.ask()));
  }
  return used;
}

/** The successor's growth from the beginning, until each of the connections was used again. */
async function growthOfMoved(service) {
  const fresh = await start("handover", COLLECT);
  const rss = await warmUp(fresh);
  await end(fresh);
  process.kill(service.pid, "SIGHUP");
  ({ pid: service.pid } = await service.next("accepts"));
  await service.next("alone");
  for (let n = 0; n < connections; n += 100) {
    await Promise.all(service.clients.slice(n, n + 100).map((client) => client.ask()));
  }
  return ((await memory(service)) - rss) / 1024 / connections;
}

async function cost(service) {
  process.kill(service.pid, "SIGUSR2");
  return service.next("cost");
}

async function start(kind, settings = {}) {
  const service = startService("steady-server.js", { WITH: kind, ...settings });
  const { port } = await service.next("accepts");
  return Object.assign(service, { port, clients: [] });
}

async function end(service) {
  for (const client of service.clients) client.end();
  service.end();
  await service.exited;
}

async function openClient(port) {
  const client = new Client(fail);
  await client.open(port);
  return client;
}

/** The same interface as {@link Client}. */
async function openWebSocket(port) {
  const ws = new WebSocket(`ws://127.0.0.1:${port}`, { perMessageDeflate: false });
  await new Promise((resolve) => ws.once("open", resolve));
  let answered;
  ws.on("message", () => answered()).on("close", () => fail("a WebSocket was closed"));
  return {
    async ask() {
      const answer = new Promise((resolve) => (answered = resolve));
      ws.send("hello");
      await answer;
    },
    end: () => ws.removeAllListeners("close").terminate(),
  };
}
