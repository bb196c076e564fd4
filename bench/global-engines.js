// The engines of bench/global.js, each in a temporary directory, as the user `nobody` if this is root.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chownSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { migrate } from "handover/postgres";
import { saysReady } from "../examples/temporary-postgres.js";
import { atEnd } from "./at-end.js";
import { freePort } from "./free-port.js";

/** By name. Each resolves with where it is, a function that makes one durable update, and one that stops it. */
export const ENGINES = { postgres: startPostgres, etcd: startEtcd };

async function startPostgres() {
  const root = "/usr/lib/postgresql";
  const newest = readdirSync(root).toSorted((a, b) => Number(b) - Number(a))[0];
  const program = (name) => join(root, newest, "bin", name);
  const { data, options, remove } = directory();
  execFileSync(program("initdb"), ["-D", data, "-U", "postgres", "-A", "trust"], options);
  const port = await freePort();
  const settings = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    `port=${port}`,
    "lc_messages=C",
  ];
  const flags = ["-D", data, ...settings.flatMap((one) => ["-c", one])];
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
  const client = new Client({ connectionString: url });
  const server = spawn(program("postgres"), flags, options);
  const stop = atEnd(async () => {
    await client.end();
    await end(server);
    remove();
  });
  await saysReady("PostgreSQL", server, /ready to accept connections/);
  await client.connect();
  await migrate({ url });
  await client.query("create table single (n int)");
  await client.query("insert into single values (0)");
  const update = async () => client.query("update single set n = n + 1");
  return { name: "PostgreSQL", endpoint: url, update, stop };
}

async function startEtcd() {
  const { data, options, remove } = directory();
  const [endpoint, peers] = [`http://127.0.0.1:${await freePort()}`, `http://127.0.0.1:${await freePort()}`];
  const flags = {
    "data-dir": data,
    "listen-client-urls": endpoint,
    "advertise-client-urls": endpoint,
    "listen-peer-urls": peers,
    "initial-advertise-peer-urls": peers,
    "initial-cluster": `default=${peers}`,
  };
  const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
  const agent = new Agent({ keepAlive: true });
  const server = spawn("etcd", args, options);
  const stop = atEnd(async () => {
    agent.destroy();
    await end(server);
    remove();
  });
  await saysReady("etcd", server, /serving (?:insecure )?client (?:requests|traffic)/);
  const update = async () => {
    const asking = request(`${endpoint}/v3/kv/put`, { agent, method: "POST" });
    asking.end(JSON.stringify({ key: "c2luZ2xl", value: "bg==" }));
    const [response] = await once(asking, "response");
    await once(response.resume(), "end");
    if (response.statusCode !== 200) throw new Error(`etcd answers ${response.statusCode}`);
  };
  return { name: "etcd", endpoint, update, stop };
}

function directory() {
  const path = mkdtempSync(join(tmpdir(), "handover-bench-"));
  const user = process.getuid() === 0 ? { uid: 65_534, gid: 65_534 } : {};
  if (user.uid !== undefined) chownSync(path, user.uid, user.gid);
  return {
    data: join(path, "data"),
    options: { ...user, cwd: path, stdio: ["ignore", "ignore", "pipe"] },
    remove: atEnd(() => rmSync(path, { recursive: true, force: true })),
  };
}

async function end(server) {
  if (server.exitCode !== null || server.signalCode !== null) return;
  server.kill("SIGINT");
  await once(server, "exit");
}
