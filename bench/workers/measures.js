// What is measured of a service of several workers.
import { Agent } from "node:http";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "../idle-clients.js";
import { ask, Clients } from "../peers/clients.js";
import { percentile, progress } from "../statistics.js";
import { cpuOf, memoryOf, startBare, startService, until } from "./services.js";

/** Clients that ask at a time, and requests or connections of one round. */
const CLIENTS = 32;
const REQUESTS = 3_000;
const CONNECTIONS = 1_000;
/** ms from the start of one upgrade to that of the next. */
const EVERY = 4_000;

/**
 * Requests on keep-alive connections and connections with one request each, in rounds in which all services take part, as the
 * speed of a machine drifts. The first round is not counted: the code is not compiled yet.
 */
export async function measureSpeed(services, rounds) {
  const speeds = new Map(services.map((service) => [service, []]));
  for (let round = 0; round <= rounds; round++) {
    progress(`speed: round ${round} of ${rounds}`);
    const order = round % 2 === 0 ? services : services.toReversed();
    for (const service of order) {
      // Each server closes what is idle for 5 s.
      const clients = await openClients(service.port, CLIENTS);
      const requests = await rate(service, REQUESTS, (n) => clients[n].ask());
      for (const client of clients) client.end();
      const connections = await rate(service, CONNECTIONS, () => askOnce(service.port));
      if (round > 0) speeds.get(service).push({ requests, connections });
    }
  }
  return speeds;
}

/** Requests per second, and the CPU time of all processes of the service for each, in µs. */
async function rate(service, count, send) {
  const cpu = service.cpu();
  const began = performance.now();
  let left = count;
  const work = async (_, n) => {
    while (left-- > 0) await send(n);
  };
  await Promise.all(Array.from({ length: CLIENTS }, work));
  const perSecond = (count / (performance.now() - began)) * 1_000;
  return { perSecond, cpu: ((service.cpu() - cpu) * 1_000) / count };
}

async function openClients(port, count) {
  const clients = Array.from({ length: count }, () => new Client(fail));
  for (const client of clients) await client.open(port);
  return clients;
}

function fail(reason) {
  throw new Error(reason);
}

/** One request on a connection of its own, until the server has closed it. */
function askOnce(port) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("error", reject).once("close", resolve).resume();
    socket.write("GET / HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n");
  });
}

/** How many times its share the busiest worker has of short and of long connections. */
export async function measureBalance({ name, port, workers }, connections) {
  progress(`${name}: balance`);
  const count = workers().length;
  const spread = async (isLong) => {
    const agents = [];
    const byPid = new Map();
    let left = connections;
    const open = async () => {
      while (left-- > 0) {
        const agent = isLong && new Agent({ keepAlive: true, maxSockets: 1 });
        if (agent) agents.push(agent);
        const { pid } = await ask({ port, path: "/", agent, onClosed() {} });
        byPid.set(pid, (byPid.get(pid) ?? 0) + 1);
      }
    };
    await Promise.all(Array.from({ length: CLIENTS }, open));
    for (const agent of agents) agent.destroy();
    return (Math.max(...byPid.values()) * count) / connections;
  };
  return { short: await spread(false), long: await spread(true) };
}

/** What the clients of bench:peers see of upgrades. */
export async function measureUpgrades(service, upgrades) {
  const clients = new Clients(service.port);
  // A connection that is not open yet cannot be lost.
  await sleep(2_000);
  const took = [];
  for (let n = 1; n <= upgrades; n++) {
    progress(`${service.name}: upgrade ${n} of ${upgrades}`);
    const rest = sleep(EVERY);
    const began = performance.now();
    await service.upgrade();
    took.push(performance.now() - began);
    await rest;
  }
  await clients.finish();
  const { failed, faults } = failuresOf(clients);
  const closed = Object.values(clients.closed).reduce((sum, one) => sum + one, 0);
  // A client that opens a connection for each request closes it itself.
  return { failed, closed: closed - clients.closed.fresh, faults, median: percentile(took, 50) };
}

function failuresOf({ samples }) {
  const faults = {};
  for (const { fault } of Object.values(samples).flat()) {
    if (fault !== undefined) faults[fault] = (faults[fault] ?? 0) + 1;
  }
  return { faults, failed: Object.values(faults).reduce((sum, one) => sum + one, 0) };
}

/** What new connections see while a random worker is killed once every `every` ms, for `kills` times. */
export async function measureKills(service, kills, every) {
  const load = new FreshLoad(service.port);
  for (let n = 1; n <= kills; n++) {
    progress(`${service.name}: kill ${n} of ${kills}`);
    const workers = service.workers();
    const victim = workers[Math.floor(Math.random() * workers.length)];
    if (victim !== undefined) process.kill(victim, "SIGKILL");
    await sleep(every);
  }
  return load.end();
}

/** Resets and refusals while the number of workers changes. */
export async function measureScaling(service, counts) {
  const load = new FreshLoad(service.port);
  const clients = new Clients(service.port);
  await sleep(1_000);
  for (const count of counts) {
    progress(`${service.name}: ${count} workers`);
    await service.scale(count);
    await until(() => service.workers().length === count);
  }
  await clients.finish();
  const { failed } = failuresOf(clients);
  return { ...(await load.end()), failed };
}

/** Clients that open one connection after another, each for one request. */
class FreshLoad {
  #isOver = false;
  #took = [];
  #faults = {};
  #done;

  constructor(port) {
    const work = async () => {
      while (!this.#isOver) {
        const sent = performance.now();
        await ask({ port, path: "/", agent: false }).then(
          () => this.#took.push(performance.now() - sent),
          ({ code }) => (this.#faults[code] = (this.#faults[code] ?? 0) + 1),
        );
        await sleep(5);
      }
    };
    this.#done = Promise.all(Array.from({ length: 8 }, work));
  }

  async end() {
    this.#isOver = true;
    await this.#done;
    const faults = this.#faults;
    const { ECONNREFUSED: refused = 0, ECONNRESET: reset = 0 } = faults;
    return { connections: this.#took.length, refused, reset, faults, longest: Math.max(...this.#took) };
  }
}

/**
 * The memory of the supervisor over that of a bare process, its CPU time at rest, and how it grows.
 *
 * @param rest s
 * @param growth upgrades, and as many crashes
 */
export async function measureSupervisor({ rest, growth }) {
  const options = ["--backoff", "0", "--restarts", "100000", "--probation", "0"];
  const service = await startService("handover", 2, options);
  const bare = await startBare();
  const pid = service.root();
  progress("supervisor: at rest");
  const cpu = cpuOf(pid);
  await sleep(rest * 1_000);
  const result = {
    memory: memoryOf(pid),
    bare: memoryOf(bare.pid),
    percent: (cpuOf(pid) - cpu) / (rest * 10),
  };
  await bare.stop();
  const grow = async (what, count, once) => {
    // What a first few leave is not growth.
    for (let n = 0; n < Math.min(count, WARM_UP); n++) await once();
    const before = memoryOf(pid);
    for (let n = 1; n <= count; n++) {
      progress(`supervisor: ${what} ${n} of ${count}`);
      await once();
    }
    return memoryOf(pid) - before;
  };
  if (growth > 0) {
    result.grownByUpgrades = await grow("upgrade", growth, () => service.upgrade());
    result.grownByCrashes = await grow("crash", growth, async () => {
      const [victim] = service.workers();
      process.kill(victim, "SIGKILL");
      await until(() => service.workers().length === 2 && !service.workers().includes(victim));
    });
  }
  await service.stop();
  return result;
}

const WARM_UP = 20;
