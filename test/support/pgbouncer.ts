import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NOBODY } from "./another-user.js";
import { freePort } from "./port.js";
import { untilSaid } from "./until-said.js";

/** A PgBouncer that pools transactions, before a PostgreSQL, on the loopback interface. It does not run as root. */
export class PgBouncer {
  readonly url: string;
  readonly #directory: string;
  readonly #process: ChildProcess;

  /** @param target the port of the database. It gets two connections, and each transaction the one that was idle longest */
  static async start(target: number): Promise<PgBouncer> {
    const directory = mkdtempSync(join(tmpdir(), "handover-pgbouncer-"));
    const user = process.getuid!() === 0 ? { uid: NOBODY, gid: NOBODY } : undefined;
    if (user !== undefined) chownSync(directory, user.uid, user.gid);
    const port = await freePort();
    const settings = [
      "[databases]",
      `postgres = host=127.0.0.1 port=${target} user=postgres`,
      "[pgbouncer]",
      "listen_addr = 127.0.0.1",
      `listen_port = ${port}`,
      "unix_socket_dir =",
      "auth_type = any",
      "pool_mode = transaction",
      "default_pool_size = 2",
      "server_round_robin = 1",
      "max_client_conn = 1000",
    ];
    const file = join(directory, "pgbouncer.ini");
    writeFileSync(file, settings.join("\n"));
    const bouncer = spawn("pgbouncer", [file], {
      ...user,
      cwd: directory,
      stdio: ["ignore", "ignore", "pipe"],
    });
    await untilSaid(bouncer.stderr, /process up/);
    return new PgBouncer(`postgres://postgres@127.0.0.1:${port}/postgres`, directory, bouncer);
  }

  private constructor(url: string, directory: string, bouncer: ChildProcess) {
    this.url = url;
    this.#directory = directory;
    this.#process = bouncer;
  }

  async remove(): Promise<void> {
    this.#process.kill("SIGKILL");
    await once(this.#process, "exit");
    rmSync(this.#directory, { recursive: true });
  }
}
