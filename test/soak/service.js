import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const SERVER = fileURLToPath(new URL("server.js", import.meta.url));

/** The service, all its generations. It fails with whatever any of them prints on stderr. */
export class Service {
  noise = "";
  newest;
  /** How the drains of all generations ended, summed. */
  moved = 0;
  destroyed = 0;
  stayed = {};
  #waiting = new Map();
  #ended;

  static async start(settings) {
    const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env;
    const child = spawn(process.execPath, [SERVER, JSON.stringify(settings)], {
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const service = new Service(child);
    service.newest = await service.#until("accepting", 0);
    return service;
  }

  constructor(child) {
    createInterface({ input: child.stdout }).on("line", (line) => this.#hear(JSON.parse(line)));
    child.stderr.setEncoding("utf8").on("data", (text) => (this.noise += text));
    this.#ended = new Promise((resolve) => child.once("close", resolve));
  }

  /** Replaces the newest process; resolves when it has left, with the ms until the new one accepted. */
  async upgrade() {
    const { pid, generation } = this.newest;
    const start = performance.now();
    process.kill(pid, "SIGHUP");
    this.newest = await this.#until("accepting", generation + 1);
    const ms = performance.now() - start;
    await this.#until("exited", generation);
    return ms;
  }

  async stop() {
    process.kill(this.newest.pid, "SIGTERM");
    await this.#ended;
  }

  /** What the newest process holds. */
  belongings() {
    const { pid } = this.newest;
    const [, kilobytes] = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
    return { descriptors: readdirSync(`/proc/${pid}/fd`).length, megabytes: Math.round(kilobytes / 1024) };
  }

  #hear({ event, generation, ...fields }) {
    if (event === "rollback") this.noise += `generation ${generation} took over again: ${fields.message}\n`;
    if (event === "drained") this.#count(fields);
    const key = `${event} ${generation}`;
    const { resolve } = this.#expect(key);
    resolve({ generation, ...fields });
  }

  #count({ moved, destroyed, stayed }) {
    this.moved += moved;
    this.destroyed += destroyed;
    for (const [code, count] of Object.entries(stayed)) this.stayed[code] = (this.stayed[code] ?? 0) + count;
  }

  async #until(event, generation) {
    const ended = this.#ended.then(() => {
      throw new Error(`the service ended before "${event}" of generation ${generation}: ${this.noise}`);
    });
    return Promise.race([this.#expect(`${event} ${generation}`).promise, ended]);
  }

  #expect(key) {
    let expected = this.#waiting.get(key);
    if (expected === undefined) {
      expected = {};
      expected.promise = new Promise((resolve) => (expected.resolve = resolve));
      this.#waiting.set(key, expected);
    }
    return expected;
  }
}
