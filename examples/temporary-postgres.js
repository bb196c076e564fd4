// A PostgreSQL in a temporary directory, on the loopback interface, for as long as this process runs.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";

/**
 * @returns {Promise<{ url: string, version: string, directory: string, stop: () => Promise<void> }>}
 * @throws {Error} if it is not installed, or does not start
 */
export async function startPostgres() {
  const programs = findPrograms();
  const directory = mkdtempSync(join(tmpdir(), "handover-example-"));
  const data = join(directory, "data");
  const remove = () => rmSync(directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  // It does not run as root.
  const user = process.getuid() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
  if (user.uid !== undefined) chownSync(directory, user.uid, user.gid);
  try {
    const words = ["-D", data, "-U", "postgres", "-A", "trust", "--no-sync"];
    execFileSync(join(programs, "initdb"), words, { ...user, cwd: directory, stdio: "pipe" });
    appendFileSync(
      join(data, "postgresql.conf"),
      "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nlc_messages = 'C'\n",
    );
    const port = await freePort();
    const server = spawn(join(programs, "postgres"), ["-D", data, "-p", String(port)], {
      ...user,
      cwd: directory,
      // Ctrl-C is for this process, which stops it last.
      detached: true,
      stdio: ["ignore", "ignore", "pipe"],
    });
    const exited = once(server, "exit");
    await saysReady("PostgreSQL", server, /ready to accept connections/);
    const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
    const version = await versionOf(url);
    const stop = async () => {
      // At once: nothing of it is kept.
      server.kill("SIGQUIT");
      await exited;
      remove();
    };
    return { url, version, directory, stop };
  } catch (error) {
    remove();
    throw error;
  }
}

/** The directory of its programs: POSTGRES_BIN, or where Debian and others install them. */
function findPrograms() {
  const root = "/usr/lib/postgresql";
  const versions = existsSync(root) ? readdirSync(root).toSorted((a, b) => Number(b) - Number(a)) : [];
  const given = process.env.POSTGRES_BIN;
  const places =
    given === undefined
      ? [...versions.map((one) => join(root, one, "bin")), ...(process.env.PATH ?? "").split(":")]
      : [given];
  const found = places.find((one) => ["initdb", "postgres"].every((name) => existsSync(join(one, name))));
  if (found !== undefined) return found;
  throw new Error(
    `PostgreSQL is not installed: there is no initdb in ${given ?? `${root} and PATH`}. Install it ` +
      "(Debian: apt install postgresql), or name the directory of its programs in POSTGRES_BIN.",
  );
}

/** Resolves when a server has written that it is ready. Its log is read on: a server whose log is full stands still. */
export async function saysReady(name, server, ready) {
  let log = "";
  let timer;
  try {
    await new Promise((resolve, reject) => {
      server.stderr.setEncoding("utf8").on("data", (text) => {
        log = (log + text).slice(-LONGEST_LOG);
        if (ready.test(log)) resolve();
      });
      server.once("error", reject);
      server.once("exit", () => reject(new Error(`${name} has ended: ${log}`)));
      timer = setTimeout(() => reject(new Error(`${name} does not start: ${log}`)), LONGEST_START);
    });
  } catch (error) {
    server.kill("SIGKILL");
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** Characters of the log that are kept, and ms. */
const LONGEST_LOG = 4_000;
const LONGEST_START = 60_000;

async function versionOf(url) {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query("show server_version");
    return rows[0].server_version;
  } finally {
    await client.end();
  }
}

export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** The user `nobody`. */
const NOBODY = 65_534;
