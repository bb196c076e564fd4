import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, chownSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { postgres, type PostgresOptions } from "../../dist/postgres/index.js";
import { NOBODY } from "./another-user.js";
import { freePort } from "./port.js";

/** A PostgreSQL of its own, in a temporary directory, on the loopback interface. It does not run as root. */
export class Postgres {
  readonly port: number;
  readonly #directory: string;
  readonly #user: { uid: number; gid: number } | undefined;
  #process: ChildProcess | undefined;

  /**
   * @param settings lines of postgresql.conf
   * @param flags of initdb
   */
  static async start(
    settings: readonly string[] = ["fsync = off"],
    flags: readonly string[] = [],
  ): Promise<Postgres> {
    const directory = mkdtempSync(join(tmpdir(), "handover-postgres-"));
    const isRoot = process.getuid!() === 0;
    const user = isRoot ? { uid: NOBODY, gid: NOBODY } : undefined;
    if (user !== undefined) chownSync(directory, user.uid, user.gid);
    const server = new Postgres(directory, await freePort(), user);
    const data = join(directory, "data");
    const options = { ...user, stdio: "ignore" as const, cwd: directory };
    const words = ["-D", data, "-U", "postgres", "-A", "trust", "--no-sync", ...flags];
    execFileSync(program("initdb"), words, options);
    // `run` reads its messages.
    const lines = [
      "lc_messages = 'C'",
      "listen_addresses = '127.0.0.1'",
      `unix_socket_directories = ''`,
      ...settings,
    ];
    appendFileSync(join(data, "postgresql.conf"), `${lines.join("\n")}\n`);
    await server.run();
    return server;
  }

  private constructor(directory: string, port: number, user: { uid: number; gid: number } | undefined) {
    this.#directory = directory;
    this.port = port;
    this.#user = user;
  }

  get url(): string {
    return this.urlOf("postgres");
  }

  urlOf(user: string): string {
    return `postgres://${user}@127.0.0.1:${this.port}/postgres`;
  }

  get pid(): number {
    return this.#process!.pid!;
  }

  /** Starts it, again after it was killed. Resolves when it answers. */
  async run(): Promise<void> {
    const data = join(this.#directory, "data");
    // As long as processes of the one that was killed live, another one ends at once.
    for (let isReady = false; !isReady;) {
      this.#process = spawn(program("postgres"), ["-D", data, "-p", String(this.port)], {
        ...this.#user,
        cwd: this.#directory,
        stdio: ["ignore", "ignore", "pipe"],
      });
      isReady = await saysReady(this.#process);
    }
  }

  /** Resolves when it has ended by itself. */
  async ended(): Promise<void> {
    if (this.#process!.exitCode === null) await once(this.#process!, "exit");
  }

  /** Kills it, with all its processes, and waits until it is dead. */
  async kill(): Promise<void> {
    const process_ = this.#process;
    this.#process = undefined;
    if (process_ === undefined || process_.exitCode !== null || process_.signalCode !== null) return;
    // The others notice that the first is dead.
    process_.kill("SIGKILL");
    await once(process_, "exit");
  }

  /** Kills it, and removes its files. */
  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.#directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }

  /** The value of the option `exchange`. */
  exchange(options: Partial<PostgresOptions> = {}): ReturnType<typeof postgres> {
    return postgres({ service: "test", url: this.url, migrate: true, ...options });
  }

  /** Rows of one statement. */
  async query(text: string, values: unknown[] = []): Promise<Record<string, unknown>[]> {
    const client = new Client({ connectionString: this.url });
    client.on("error", () => {});
    await client.connect();
    try {
      return (await client.query(text, values)).rows;
    } finally {
      await client.end();
    }
  }

  /** Puts lines before the one of pg_hba.conf that lets everybody in. */
  async authenticate(...lines: readonly string[]): Promise<void> {
    const [{ hba_file: file }] = (await this.query("show hba_file")) as [{ hba_file: string }];
    const all = [...lines, "host all all 127.0.0.1/32 trust"].map((line) => `('${line}')`);
    await this.query(`copy (values ${all.join()}) to '${file}'`);
    const [{ before }] = (await this.query("select pg_conf_load_time()::text as before")) as [
      { before: string },
    ];
    await this.query("select pg_reload_conf()");
    const isRead = "select where pg_conf_load_time() > $1";
    while ((await this.query(isRead, [before])).length === 0);
  }

  /** Leaves a transaction open with one statement. Returns a function that ends it, and does nothing else. */
  async hold(text: string, values: unknown[]): Promise<() => Promise<void>> {
    const client = await this.transaction();
    await client.query(text, values);
    return async () => client.end();
  }

  /** A connection on which a transaction has begun. */
  async transaction(): Promise<Client> {
    const client = new Client({ connectionString: this.url });
    client.on("error", () => {});
    await client.connect();
    await client.query("begin");
    return client;
  }
}

/** Resolves with true when the server says that it accepts connections; with false if it ends before. Its log is read on. */
async function saysReady(server: ChildProcess): Promise<boolean> {
  return new Promise((resolve) => {
    let log = "";
    server.stderr!.setEncoding("utf8").on("data", (text: string) => {
      log = (log + text).slice(-LONGEST_LINE);
      if (log.includes("database system is ready to accept connections")) resolve(true);
    });
    server.once("exit", () => resolve(false));
  });
}

/** Characters of the log that are kept. */
const LONGEST_LINE = 1_000;

/** By hand, with another version: `POSTGRES_BIN=/usr/lib/postgresql/12/bin npm run test:hosts` */
function program(name: string): string {
  const given = process.env["POSTGRES_BIN"];
  if (given !== undefined) return join(given, name);
  const root = "/usr/lib/postgresql";
  const [newest] = readdirSync(root).toSorted((a, b) => Number(b) - Number(a));
  return join(root, newest!, "bin", name);
}
