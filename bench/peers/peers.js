// How each peer is started, upgraded and stopped: as by its users.
import { execFile, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { atEnd } from "../at-end.js";

const run = promisify(execFile);
// Extra certificates triple the time that Node takes to start.
const { NODE_EXTRA_CA_CERTS: _, ...environment } = process.env;

/**
 * Starts a peer with the variables PORT and, over TLS, TLS_KEY and TLS_CERT. Returns the functions that upgrade and stop it,
 * or throws `Missing` if the peer cannot be installed. `upgrade` gets the PID that answers now; the upgrade is over when
 * another PID answers.
 */
export const peers = {
  handover: (settings) => signalled("handover-server.js", settings, { follow: true }),
  cluster: (settings) => signalled("cluster-server.js", settings, { follow: false }),
  pm2: startWithPm2,
  tableflip: startTableflip,
  restart: stopAndStart,
};

export class Missing extends Error {}

/** A peer that SIGHUP upgrades. `follow`: the signal goes to the process that answers, not to the first one. */
function signalled(program, settings, { follow }) {
  const child = start(process.execPath, [pathOf(program)], settings);
  return bySignal(child, follow);
}

function bySignal(child, follow) {
  return {
    upgrade: async (pid) => process.kill(follow ? pid : child.pid, "SIGHUP"),
    stop: atEnd(async () => end(child)),
  };
}

/** PM2's daemon gets a home directory of its own, which `stop` removes. */
async function startWithPm2(settings) {
  const pm2 = await findPm2();
  const home = mkdtempSync(join(tmpdir(), "handover-pm2-"));
  const env = { ...environment, PM2_HOME: home, ...settings };
  const call = (...args) => run(process.execPath, [pm2, ...args], { env, timeout: COMMAND_TIMEOUT });
  const stop = atEnd(async () => {
    await call("kill").finally(() => rmSync(home, { recursive: true, force: true }));
  });
  try {
    await call("start", pathOf("plain-server.js"), "--name", "peer", "-i", "1", "--wait-ready");
  } catch (error) {
    await stop();
    throw error;
  }
  return { upgrade: () => call("reload", "peer"), stop };
}

/** PM2 has too many dependencies to be a development dependency: it is installed into a cache. */
export async function findPm2() {
  const cache = join(environment.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "handover-bench");
  const find = () => createRequire(join(cache, "package.json")).resolve("pm2/bin/pm2");
  try {
    return find();
  } catch {
    try {
      const args = ["install", "--prefix", cache, "--no-audit", "--no-fund", "--ignore-scripts", PM2];
      await run("npm", args, { timeout: COMMAND_TIMEOUT });
      return find();
    } catch (error) {
      throw new Missing(`${PM2} cannot be installed into ${cache}: ${error.message.split("\n")[0]}`);
    }
  }
}

/** Needs Debian's golang-go and golang-github-cloudflare-tableflip-dev. */
async function startTableflip(settings) {
  const directory = mkdtempSync(join(tmpdir(), "handover-tableflip-"));
  const program = join(directory, "server");
  const env = { ...environment, GO111MODULE: "off", GOPATH: "/usr/share/gocode" };
  const remove = atEnd(() => rmSync(directory, { recursive: true, force: true }));
  try {
    await run("go", ["build", "-o", program, pathOf("tableflip/main.go")], { env, timeout: COMMAND_TIMEOUT });
  } catch (error) {
    remove();
    throw new Missing(error.code === "ENOENT" ? "go is not installed" : `go build: ${error.stderr}`);
  }
  const { upgrade, stop } = bySignal(start(program, [], settings), true);
  return { upgrade, stop: () => stop().finally(remove) };
}

/** A stop and a start, without any of these tools. */
function stopAndStart(settings) {
  let child = start(process.execPath, [pathOf("plain-server.js")], settings);
  return {
    upgrade: async () => {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      const killer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT);
      await ended;
      clearTimeout(killer);
      child = start(process.execPath, [pathOf("plain-server.js")], settings);
    },
    stop: atEnd(async () => end(child)),
  };
}

function start(command, args, settings) {
  return spawn(command, args, {
    env: { ...environment, ...settings },
    // A process group of its own can be killed as a whole, whichever processes are in it by then.
    detached: true,
    stdio: ["ignore", "ignore", "inherit"],
  });
}

function end(child) {
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // Every process has exited.
  }
}

function pathOf(file) {
  return fileURLToPath(new URL(file, import.meta.url));
}

const PM2 = "pm2@7.0.4";

/** ms; the default of Docker. */
const STOP_TIMEOUT = 10_000;

/** ms: for a command of a peer, and for an installation. */
const COMMAND_TIMEOUT = 120_000;
