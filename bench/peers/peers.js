// How each peer is started, upgraded and stopped: as its users do.
import { execFile, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
// Extra certificates triple the time that Node takes to start.
const { NODE_EXTRA_CA_CERTS: _, ...environment } = process.env;

/**
 * Each is started on a port, and is then something that can be upgraded and stopped. One that cannot be had
 * throws `Missing`. `upgrade` gets the PID that answers now; the upgrade is over when another one does.
 */
export const peers = {
  handover: (port) => signalled("handover-server.js", port, { follow: true }),
  cluster: (port) => signalled("cluster-server.js", port, { follow: false }),
  pm2: startWithPm2,
  tableflip: startTableflip,
  restart: stopAndStart,
};

export class Missing extends Error {}

/** SIGHUP upgrades it: the process that answers, or the one that was started. */
function signalled(program, port, { follow }) {
  const child = start(process.execPath, [pathOf(program)], port);
  return bySignal(child, follow);
}

function bySignal(child, follow) {
  return {
    upgrade: async (pid) => process.kill(follow ? pid : child.pid, "SIGHUP"),
    stop: async () => end(child),
  };
}

/** PM2's daemon has a home of its own, and ends with it. */
async function startWithPm2(port) {
  const pm2 = await findPm2();
  const home = mkdtempSync(join(tmpdir(), "handover-pm2-"));
  const env = { ...environment, PM2_HOME: home, PORT: String(port) };
  const call = (...args) => run(process.execPath, [pm2, ...args], { env, timeout: LONGEST });
  const stop = async () => {
    await call("kill").finally(() => rmSync(home, { recursive: true, force: true }));
  };
  try {
    await call("start", pathOf("plain-server.js"), "--name", "peer", "-i", "1", "--wait-ready");
  } catch (error) {
    await stop();
    throw error;
  }
  return { upgrade: () => call("reload", "peer"), stop };
}

/** It brings too many packages for a development dependency: a cache of its own holds them. */
async function findPm2() {
  const cache = join(environment.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "handover-bench");
  const find = () => createRequire(join(cache, "package.json")).resolve("pm2/bin/pm2");
  try {
    return find();
  } catch {
    try {
      const args = ["install", "--prefix", cache, "--no-audit", "--no-fund", "--ignore-scripts", PM2];
      await run("npm", args, { timeout: LONGEST });
      return find();
    } catch (error) {
      throw new Missing(`${PM2} cannot be installed into ${cache}: ${error.message.split("\n")[0]}`);
    }
  }
}

/** Where Debian's golang-go and golang-github-cloudflare-tableflip-dev are installed. */
async function startTableflip(port) {
  const directory = mkdtempSync(join(tmpdir(), "handover-tableflip-"));
  const program = join(directory, "server");
  const env = { ...environment, GO111MODULE: "off", GOPATH: "/usr/share/gocode" };
  const remove = () => rmSync(directory, { recursive: true, force: true });
  try {
    await run("go", ["build", "-o", program, pathOf("tableflip/main.go")], { env, timeout: LONGEST });
  } catch (error) {
    remove();
    throw new Missing(error.code === "ENOENT" ? "go is not installed" : `go build: ${error.stderr}`);
  }
  const { upgrade, stop } = bySignal(start(program, [], port), true);
  return { upgrade, stop: () => stop().finally(remove) };
}

/** What everybody does who has none of these. */
function stopAndStart(port) {
  let child = start(process.execPath, [pathOf("plain-server.js")], port);
  return {
    upgrade: async () => {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      const killer = setTimeout(() => child.kill("SIGKILL"), PATIENCE);
      await ended;
      clearTimeout(killer);
      child = start(process.execPath, [pathOf("plain-server.js")], port);
    },
    stop: async () => end(child),
  };
}

function start(command, args, port) {
  return spawn(command, args, {
    env: { ...environment, PORT: String(port) },
    // A process group of its own can be ended as a whole, whoever is in it by then.
    detached: true,
    stdio: ["ignore", "ignore", "inherit"],
  });
}

function end(child) {
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // Nobody is left.
  }
}

function pathOf(file) {
  return fileURLToPath(new URL(file, import.meta.url));
}

const PM2 = "pm2@7.0.4";

/** ms, as Docker has it. */
const PATIENCE = 10_000;

/** ms: for what a peer is told to do, and for an installation. */
const LONGEST = 120_000;
