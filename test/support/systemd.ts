import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import {
  accessSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const PACKAGE = fileURLToPath(new URL("../..", import.meta.url));
const SCRIPT = fileURLToPath(new URL("systemd.sh", import.meta.url));

/** Why no systemd can be started here; undefined where one can. */
export const obstacle = findObstacle();

/** For the title of a suite that needs systemd: nobody is to believe that it ran where it did not. */
export const untested = obstacle === undefined ? "" : ` (NOT TESTED: ${obstacle})`;

/** In CI a skip is a failure. */
export function requireInCi(): void {
  test.runIf(process.env["CI"] === "true")("a systemd of its own can be started here", () => {
    expect(obstacle).toBeUndefined();
  });
}

/** How a command ended. */
export interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

/** A systemd of the test's own, as PID 1 of its own namespaces: neither side sees the other's processes or network. */
export class Systemd {
  readonly #process: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #directory: string;
  readonly #cgroup: string;
  /** Of the script that starts it. */
  #complaint = "";
  /** Of its PID 1, as this machine calls it. */
  #init = 0;

  static async boot(): Promise<Systemd> {
    const systemd = new Systemd();
    await systemd.#untilRunning();
    return systemd;
  }

  private constructor() {
    this.#directory = mkdtempSync(join(tmpdir(), "handover-systemd-"));
    this.#cgroup = mkdtempSync(join(cgroupMount()!, "handover-test-"));
    const args = [SCRIPT, this.#directory, PACKAGE, this.#cgroup];
    this.#process = spawn("sh", args, { stdio: ["ignore", "ignore", "pipe"] });
    this.#process.stderr!.setEncoding("utf8").on("data", (chunk: string) => (this.#complaint += chunk));
    this.#exited = once(this.#process, "exit");
  }

  /** The end of it, and of everything in it. */
  async halt(): Promise<void> {
    if (this.#init > 0) process.kill(this.#init, "SIGKILL");
    else this.#process.kill("SIGKILL");
    await this.#exited;
    removeCgroup(this.#cgroup);
    rmSync(this.#directory, { recursive: true });
  }

  /** To systemd itself. */
  signal(name: NodeJS.Signals): void {
    process.kill(this.#init, name);
  }

  /** Runs a command inside. */
  run(...[word, ...rest]: [string, ...string[]]): Promise<Ended> {
    return new Promise((resolve) => {
      execFile("nsenter", [...this.entry(), word, ...rest], { timeout: LONGEST }, (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : Number(error.code ?? 1), stdout, stderr });
      });
    });
  }

  /** Asks for what a server does not end by itself; resolves when it has begun. `ended` tells what has come. */
  async hold(port: number): Promise<{ ended: Promise<string> }> {
    const url = `http://127.0.0.1:${port}/hold`;
    const asked = spawn("nsenter", [...this.entry(), "curl", "--silent", "--no-buffer", url]);
    let text = "";
    asked.stdout.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
    const ended = once(asked, "close").then(() => text);
    await Promise.race([once(asked.stdout, "data"), ended]);
    return { ended };
  }

  /** The words by which `nsenter` enters. */
  entry(): string[] {
    return ["--target", String(this.#init), "--all", "--"];
  }

  systemctl(...args: string[]): Promise<Ended> {
    return this.run("systemctl", ...args);
  }

  /** The same, where it has to work. */
  async manage(...args: string[]): Promise<void> {
    const { code, stderr } = await this.systemctl(...args);
    if (code !== 0) {
      const { stdout } = await this.systemctl("status", "--no-pager", "--full", args.at(-1)!);
      throw new Error(`systemctl ${args.join(" ")}: ${code}\n${stderr}\n${stdout}`);
    }
  }

  /** Properties of a unit. */
  async show(unit: string): Promise<Record<string, string>> {
    const { stdout } = await this.systemctl("show", unit);
    const lines = stdout.trimEnd().split("\n");
    return Object.fromEntries(lines.map((line) => line.split(/=(.*)/s, 2) as [string, string]));
  }

  /** Waits until a unit's properties are so. */
  async until(unit: string, wanted: Record<string, string | RegExp>): Promise<Record<string, string>> {
    let properties: Record<string, string> = {};
    const fits = ([name, value]: [string, string | RegExp]): boolean =>
      typeof value === "string" ? properties[name] === value : value.test(properties[name] ?? "");
    const look = async (): Promise<Record<string, string> | undefined> => {
      properties = await this.show(unit);
      return Object.entries(wanted).every(fits) ? properties : undefined;
    };
    const missing = (): string =>
      Object.keys(wanted)
        .map((name) => `${name}=${properties[name]}`)
        .join(", ");
    return poll(look, () => `${unit} still has ${missing()}`);
  }

  /** Waits until a service has no other process than this. */
  async untilAlone(name: string, pid: string): Promise<void> {
    let pids = "";
    const look = async (): Promise<true | undefined> => {
      const { stdout } = await this.run("cat", `/sys/fs/cgroup/system.slice/${name}.service/cgroup.procs`);
      pids = stdout.trim();
      return pids === pid ? true : undefined;
    };
    await poll(look, () => `${name} has, beside ${pid}, ${pids.replaceAll("\n", " ")}`);
  }

  /** Waits until a file is there, and has content. */
  async untilWritten(path: string): Promise<void> {
    const look = async (): Promise<true | undefined> =>
      existsSync(this.path(path)) && this.read(path) !== "" ? true : undefined;
    await poll(look, () => `${path} was not written`);
  }

  /** Writes units and programs, and makes systemd read them. */
  async install(files: Record<string, string>): Promise<void> {
    for (const [path, text] of Object.entries(files)) this.write(path, text);
    await this.manage("daemon-reload");
  }

  write(path: string, text: string): void {
    writeFileSync(this.path(path), text);
  }

  /** What a service has printed. */
  printed(name: string): string {
    return this.read(`/tmp/${name}.log`);
  }

  read(path: string): string {
    return readFileSync(this.path(path), "utf8");
  }

  /** A file inside, as this machine calls it. */
  path(path: string): string {
    return `/proc/${this.#init}/root${path}`;
  }

  async #untilRunning(): Promise<void> {
    const look = async (): Promise<boolean | undefined> => {
      if (this.#process.exitCode !== null) return false;
      this.#init ||= Number(childrenOf(this.#process.pid!)[0] ?? 0);
      if (this.#init === 0 || !existsSync(this.path("/run/systemd/private"))) return undefined;
      const { stdout } = await this.systemctl("is-system-running");
      return stdout.trim() === "running" ? true : undefined;
    };
    const isRunning = await poll(look, () => "systemd did not start").catch(() => false);
    if (isRunning) return;
    await this.halt();
    throw new Error(`systemd did not start: ${this.#complaint}`);
  }
}

/** Looks at a program that reports no event, until there is something to see: for a minute, every 20 ms. */
export async function poll<T>(look: () => Promise<T | undefined>, failure: () => string): Promise<T> {
  const end = performance.now() + LONGEST;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > end) throw new Error(failure());
    await pause(20);
  }
}

/** ms; a command that takes longer hangs. */
const LONGEST = 60_000;

function findObstacle(): string | undefined {
  if (process.platform !== "linux") return "this is not Linux";
  if (process.getuid!() !== 0) return "it takes root to start a systemd";
  if (!existsSync("/lib/systemd/systemd")) return "systemd is not installed";
  const mount = cgroupMount();
  if (mount === undefined) return "no cgroup2 is mounted";
  try {
    accessSync(mount, 2);
  } catch {
    return `${mount} cannot be written to`;
  }
  return undefined;
}

function cgroupMount(): string | undefined {
  const mounts = readFileSync("/proc/self/mounts", "utf8").split("\n");
  return mounts.map((line) => line.split(" ")).find(([, , type]) => type === "cgroup2")?.[1];
}

function childrenOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean);
  } catch {
    return [];
  }
}

/** Everything in it is dead. */
function removeCgroup(path: string): void {
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory()) removeCgroup(join(path, entry.name));
  }
  rmdirSync(path);
}
