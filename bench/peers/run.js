// The effect of upgrades on the clients of a server, with handover and with other tools. The clients are the same and
// never retry, and the servers are as similar as possible. A steady period comes first, then the upgrades.
//
//   npm run bench:peers [-- --upgrades 20] [--only handover,pm2,cluster,restart,tableflip] [--tls] [--json]
//
// With --tls the clients speak HTTPS and wss, over TLS 1.3, to a certificate that openssl makes.
// It takes about two minutes for each peer. PM2 is installed into a cache directory when it is first needed;
// tableflip needs Debian's golang-go and golang-github-cloudflare-tableflip-dev. A peer that cannot be installed is
// left out. Exits with 1 if handover failed a request or closed a connection.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { atEnd, endAll } from "../at-end.js";
import { freePort } from "../free-port.js";
import { ask, Clients, KINDS } from "./clients.js";
import { Missing, peers } from "./peers.js";
import { FLAG, readOptions, someOf, wholeNumber } from "../options.js";
import { inMs, percentile, progress, row } from "../statistics.js";

const values = readOptions(import.meta.url, {
  upgrades: wholeNumber(20),
  only: someOf(Object.keys(peers)),
  tls: FLAG,
  json: FLAG,
});
const { upgrades } = values;
/** ms: the steady period without upgrades. */
const STEADY = 10_000;
/** ms from the start of one upgrade to that of the next, and the part after an upgrade that counts as its window. */
const EVERY = 4_000;
const WINDOW = 1_500;
/** ms: for an upgrade, and for the exit of the old process. */
const UPGRADE_TIMEOUT = 20_000;

const identity = values.tls ? makeIdentity() : {};
const results = {};
try {
  for (const name of values.only) {
    try {
      results[name] = await measure(name);
      progress("");
      if (!values.json) print(name, results[name]);
    } catch (error) {
      if (!(error instanceof Missing)) throw error;
      progress("");
      console.error(`${name} was left out: ${error.message}`);
    }
  }
} finally {
  await endAll();
}
if (values.json) console.log(JSON.stringify({ upgrades, tls: values.tls, peers: results }));
const own = Object.values(results.handover?.kinds ?? {});
if (own.some(({ failed, closed }) => failed + closed > 0)) process.exitCode = 1;

async function measure(name) {
  const port = await freePort();
  progress(`${name}: starts`);
  const peer = await peers[name]({ PORT: String(port), ...identity });
  let pid;
  let clients;
  try {
    ({ pid } = await answering(port, undefined));
    clients = new Clients(port, values.tls);
    progress(`${name}: steady`);
    await sleep(STEADY);
    const before = { ...clients.closed };
    const windows = [];
    for (let n = 1; n <= upgrades; n++) {
      progress(`${name}: upgrade ${n} of ${upgrades}`);
      const rest = sleep(EVERY);
      const from = performance.now();
      const [next] = await Promise.all([answering(port, pid), peer.upgrade(pid)]);
      windows.push({ from, done: next.at });
      await gone(pid);
      pid = next.pid;
      await rest;
    }
    const summary = summarize(clients, before, windows);
    await clients.finish();
    return summary;
  } finally {
    await peer.stop();
  }
}

/** A key and a certificate in a temporary directory, as variables of the servers. */
function makeIdentity() {
  const directory = mkdtempSync(join(tmpdir(), "handover-peers-"));
  atEnd(() => rmSync(directory, { recursive: true, force: true }));
  const [TLS_KEY, TLS_CERT] = [join(directory, "key.pem"), join(directory, "cert.pem")];
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const files = ["-keyout", TLS_KEY, "-out", TLS_CERT];
  execFileSync("openssl", ["req", "-x509", ...curve, "-subj", "/CN=localhost", ...files], { stdio: "pipe" });
  return { TLS_KEY, TLS_CERT };
}

/** Waits until another process than `old` answers a new connection. */
async function answering(port, old) {
  const end = performance.now() + UPGRADE_TIMEOUT;
  while (performance.now() < end) {
    const pid = await ask({ port, isSecure: values.tls, path: "/", agent: false }).then(
      (reply) => reply.pid,
      () => old,
    );
    if (pid !== old) return { pid, at: performance.now() };
    await sleep(2);
  }
  throw new Error("no new process answered in time");
}

async function gone(pid) {
  const end = performance.now() + UPGRADE_TIMEOUT;
  while (performance.now() < end) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    await sleep(20);
  }
}

/** Latencies of answered requests; failures and closed connections from the first upgrade to the end. */
function summarize({ samples, closed }, before, windows) {
  const began = windows[0].from;
  const isDuring = ({ sent }) => windows.some(({ from, done }) => sent >= from && sent < done + WINDOW);
  const kinds = Object.keys(KINDS).map((kind) => {
    const all = samples[kind];
    const later = all.filter(({ sent }) => sent >= began);
    const faults = {};
    for (const { fault } of later) if (fault !== undefined) faults[fault] = (faults[fault] ?? 0) + 1;
    const failed = Object.values(faults).reduce((sum, count) => sum + count, 0);
    const summary = {
      requests: all.length,
      failed,
      failedPer100Upgrades: (failed / windows.length) * 100,
      faults,
      closed: closed[kind] - before[kind],
      steady: latencies(all.filter(({ sent }) => sent < began)),
      upgrade: latencies(later.filter(isDuring)),
    };
    return [kind, summary];
  });
  const took = windows.map(({ from, done }) => done - from);
  return {
    kinds: Object.fromEntries(kinds),
    triggerToDone: { p50: percentile(took, 50), max: percentile(took, 100), all: took },
  };
}

function latencies(samples) {
  const answered = samples.filter(({ fault }) => fault === undefined).map(({ ms }) => ms);
  return { p50: percentile(answered, 50), p99: percentile(answered, 99) };
}

function print(name, { kinds, triggerToDone: { p50, max } }) {
  const widths = [12, 10, 16, 9, 18, 18];
  console.log(row([name, "requests", "failed per 100", "closed", "steady", "upgrade"], widths));
  console.log(row(["", "", "upgrades", "", "p50 / p99", "p50 / p99"], widths));
  for (const [kind, { requests, failedPer100Upgrades, closed, steady, upgrade }] of Object.entries(kinds)) {
    const cells = [
      requests.toLocaleString("en"),
      failedPer100Upgrades.toFixed(0),
      // A client that opens a connection for each request closes it itself.
      kind === "fresh" ? "–" : String(closed),
      inMs(steady.p50, steady.p99),
      inMs(upgrade.p50, upgrade.p99),
    ];
    console.log(row([`  ${kind}`, ...cells], widths));
    const faults = Object.entries(kinds[kind].faults).map(([code, count]) => `${code} × ${count}`);
    if (faults.length > 0) console.log(`    ${faults.join(", ")}`);
  }
  console.log(`  from trigger to done: p50 ${inMs(p50)} ms, max ${inMs(max)} ms\n`);
}
