// Services of several workers, each started, upgraded and stopped as by its users.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { atEnd } from "../at-end.js";
import { freePort } from "../free-port.js";
import { ask } from "../peers/clients.js";
import { findPm2 } from "../peers/peers.js";

const run = promisify(execFile);
// Extra certificates triple the time that Node takes to start.
const { NODE_EXTRA_CA_CERTS: _, ...environment } = process.env;

const STARTERS = { handover: startHandover, cluster: startCluster, pm2: startPm2 };

/** What can be compared. */
export const NAMES = Object.keys(STARTERS);

/** ms: for a command, and for a number of workers to serve. */
const TIMEOUT = 120_000;

/**
 * Starts a service and waits until all its workers answer.
 *
 * @param options of `handover run`
 * @throws {Missing} if PM2 cannot be installed
 */
export async function startService(name, workers, options = []) {
  const port = await freePort();
  const service = await STARTERS[name](port, workers, options);
  const { root } = service;
  const all = {
    ...service,
    name,
    port,
    /** The PIDs of the workers. */
    workers: () => childrenOf(root()).filter((pid) => isWorker(pid)),
    /** Of the process above the workers and of them, so far, in ms. */
    cpu: () => [root(), ...childrenOf(root())].reduce((sum, pid) => sum + cpuOf(pid), 0),
  };
  await all.untilServed(workers);
  return all;
}

async function startHandover(port, workers, options) {
  const directory = mkdtempSync(join(tmpdir(), "handover-workers-"));
  const pidFile = join(directory, "app.pid");
  const words = ["run", "--workers", workers, "--pid-file", pidFile, ...options, "--"];
  const child = start([COMMAND, ...words.map(String), pathOf("handover-server.js")], { PORT: String(port) });
  const call = async (...args) =>
    run(process.execPath, [COMMAND, ...args.map(String), "--pid-file", pidFile], {
      env: environment,
      timeout: TIMEOUT,
    });
  return {
    root: () => child.pid,
    untilServed: async (count) => untilServed(port, count),
    upgrade: () => call("upgrade"),
    scale: (count) => call("scale", count),
    stop: atEnd(() => end(child).finally(() => rmSync(directory, { recursive: true, force: true }))),
  };
}

async function startCluster(port, workers) {
  const child = start([pathOf("cluster-server.js")], { PORT: String(port), WORKERS: String(workers) });
  return {
    root: () => child.pid,
    untilServed: async (count) => untilServed(port, count),
    async upgrade() {
      const before = childrenOf(child.pid);
      child.kill("SIGHUP");
      await until(() => childrenOf(child.pid).every((pid) => !before.includes(pid)));
    },
    stop: atEnd(() => end(child)),
  };
}

/** PM2's daemon gets a home directory of its own. */
async function startPm2(port, workers) {
  const pm2 = await findPm2();
  const home = mkdtempSync(join(tmpdir(), "handover-pm2-"));
  const env = { ...environment, PM2_HOME: home, PORT: String(port) };
  const call = (...args) => run(process.execPath, [pm2, ...args], { env, timeout: TIMEOUT });
  const stop = atEnd(() => call("kill").finally(() => rmSync(home, { recursive: true, force: true })));
  const program = fileURLToPath(new URL("../peers/plain-server.js", import.meta.url));
  await call("start", program, "--name", "bench", "-i", String(workers), "--wait-ready");
  const daemon = Number(readFileSync(join(home, "pm2.pid"), "utf8"));
  return {
    root: () => daemon,
    untilServed: async (count) => untilServed(port, count),
    upgrade: () => call("reload", "bench"),
    stop,
  };
}

function start(words, env) {
  return spawn(process.execPath, words, {
    env: { ...environment, ...env },
    stdio: "ignore",
    // A process group of its own can be killed as a whole.
    detached: true,
  });
}

async function end(child) {
  const exited = child.exitCode === null && child.signalCode === null ? once(child, "exit") : undefined;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // Every process has exited.
  }
  await exited;
}

/** Until this many processes answer. */
async function untilServed(port, count) {
  const pids = new Set();
  await until(async () => {
    const reply = await ask({ port, path: "/", agent: false }).catch(() => undefined);
    if (reply !== undefined) pids.add(reply.pid);
    return pids.size >= count;
  });
}

export async function until(isDone) {
  const last = performance.now() + TIMEOUT;
  while (!(await isDone())) {
    if (performance.now() > last) throw new Error("a service did not do in time what it was asked for");
    await sleep(5);
  }
}

function childrenOf(pid) {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8")
      .trim()
      .split(" ")
      .filter(Boolean)
      .map(Number);
  } catch {
    return [];
  }
}

/** A child that has not run its own program yet, or is dead, is none. */
function isWorker(pid) {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8") !== "";
  } catch {
    return false;
  }
}

/** ms of processor time. */
export function cpuOf(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) * 10;
  } catch {
    return 0;
  }
}

/** Resident memory in MiB. */
export function memoryOf(pid) {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) / 1_024;
}

/** A program that does nothing, and that {@link end} ends. */
export async function startBare() {
  const child = start([pathOf("idle.mjs")], {});
  return { pid: child.pid, stop: atEnd(() => end(child)) };
}

function pathOf(file) {
  return fileURLToPath(new URL(file, import.meta.url));
}

const COMMAND = fileURLToPath(new URL("../../bin/handover.js", import.meta.url));
