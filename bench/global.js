// How fast units move between hosts over PostgreSQL, beside the rate of single durable updates of the same database.
//   node bench/global.js --units 100000
import { execFileSync, spawn } from "node:child_process";
import { chownSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Client } from "pg";
import { migrate } from "handover/postgres";

const { values } = parseArgs({ options: { units: { type: "string", default: "100000" } } });
const count = Number(values.units);
const SERVICE = "bench";

/** Starts a PostgreSQL in a temporary directory, as the user `nobody` if this is root. */
async function startPostgres() {
  const directory = mkdtempSync(join(tmpdir(), "handover-bench-"));
  const user = process.getuid() === 0 ? { uid: 65_534, gid: 65_534 } : {};
  if (user.uid !== undefined) chownSync(directory, user.uid, user.gid);
  const root = "/usr/lib/postgresql";
  const newest = readdirSync(root).toSorted((a, b) => Number(b) - Number(a))[0];
  const program = (name) => join(root, newest, "bin", name);
  const data = join(directory, "data");
  const options = { ...user, cwd: directory, stdio: "ignore" };
  execFileSync(program("initdb"), ["-D", data, "-U", "postgres", "-A", "trust"], options);
  const port = 20_000 + Math.floor(Math.random() * 10_000);
  const settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", `port=${port}`];
  const server = spawn(program("postgres"), ["-D", data, ...settings.flatMap((one) => ["-c", one])], options);
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
  const stop = () => {
    server.kill("SIGINT");
    server.once("exit", () => rmSync(directory, { recursive: true, force: true }));
  };
  for (let n = 0; n < 200; n++) {
    const client = new Client({ connectionString: url });
    const isThere = await client.connect().then(
      () => true,
      () => false,
    );
    if (isThere) return { url, client, stop };
    await delay(100);
  }
  throw new Error("PostgreSQL does not start");
}

/** One host. Resolves when it says that it is ready. */
async function startHost(url, role) {
  const script = fileURLToPath(new URL("global-host.js", import.meta.url));
  const child = spawn(process.execPath, [script, url, SERVICE, role, String(count)], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const next = () => new Promise((resolve) => child.once("message", resolve));
  await next();
  return { child, next };
}

const postgres = await startPostgres();
await migrate({ url: postgres.url });
await postgres.client.query("create table single (n int)");
await postgres.client.query("insert into single values (0)");
const from = performance.now();
let singles = 0;
for (; performance.now() - from < 2_000; singles++)
  await postgres.client.query("update single set n = n + 1");
console.log(`single durable updates: ${Math.round((singles / (performance.now() - from)) * 1_000)} a second`);

const takers = [await startHost(postgres.url, "taker"), await startHost(postgres.url, "taker")];
const owner = await startHost(postgres.url, "owner");
await delay(1_000);
const reports = takers.map(async ({ next }) => next());
const reporting = owner.next();
owner.child.kill("SIGTERM");
const report = await reporting;
for (const { child } of takers) child.kill("SIGTERM");
const gaps = (await Promise.all(reports)).flatMap(({ gaps: some }) => some).toSorted((a, b) => a - b);
const at = (part) => Math.round(gaps[Math.min(gaps.length - 1, Math.floor(gaps.length * part))]);
console.log(
  `PostgreSQL: ${report.moved} of ${count} units of 1 KiB in ${(report.ms / 1_000).toFixed(1)} s, ` +
    `${Math.round((report.moved / report.ms) * 1_000)} a second; ${gaps.length} began elsewhere; ` +
    `gap p50 ${at(0.5)} ms, p99 ${at(0.99)} ms`,
);
await postgres.client.end();
postgres.stop();
