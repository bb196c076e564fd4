import { execFileSync, spawn, spawnSync, type ChildProcess } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { onTestFinished } from "vitest";
import type { Run } from "./program.js";
import { temporaryDirectory } from "./service.js";

/** What `page-clients.js` prints. */
export interface Heard {
  event: "answer" | "total";
  /** The first of this text. */
  answer?: string;
  answers?: Record<string, number>;
  failures?: string[];
}

/**
 * A host of its own, for commands that are run as a page prints them: its own processes, network, and empty `/srv` and
 * `/run`. `handover` is on PATH, and can be imported by what is in `/srv`. Everything in it ends with the test.
 */
export class Sandbox {
  readonly #directory: string;
  readonly #env: NodeJS.ProcessEnv;
  #init = 0;

  /** Why there can be none here; in CI that is no excuse. */
  static readonly missing = process.env["CI"] === undefined ? whyNot() : undefined;

  /** For the title of a test. */
  static readonly why = Sandbox.missing === undefined ? "" : ` (skipped: ${Sandbox.missing})`;

  /** @param programs that are on PATH, by their names: scripts */
  static async start(programs: Record<string, string> = {}): Promise<Sandbox> {
    const sandbox = new Sandbox();
    sandbox.#install(programs);
    await sandbox.#start();
    return sandbox;
  }

  private constructor() {
    this.#directory = temporaryDirectory();
    const own = /^(npm_|CI$|XDG_RUNTIME_DIR$)/;
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !own.test(name)));
    const node = dirname(process.execPath);
    // npm keeps its files in it.
    const HOME = this.#directory;
    this.#env = { ...env, HOME, PATH: [join(this.#directory, "bin"), node, env["PATH"]].join(delimiter) };
  }

  /** Runs a block of a page. */
  run(
    text: string,
    { cwd = "/srv", env = {} }: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
  ): Promise<Run> {
    const child = this.#enter(["/bin/sh", "-e", "-c", `cd ${cwd}\n${text}`], env);
    const run: Run = { code: null, stdout: "", stderr: "" };
    child.stdout!.setEncoding("utf8").on("data", (chunk: string) => (run.stdout += chunk));
    child.stderr!.setEncoding("utf8").on("data", (chunk: string) => (run.stderr += chunk));
    child.stdin!.end();
    return new Promise((done) =>
      child.once("exit", (code) => {
        // What it has started in the background may hold its output open.
        setImmediate(() => done({ ...run, code }));
      }),
    );
  }

  /** Writes a file; an absolute path of the sandbox's. */
  async write(path: string, text: string, mode = 0o644): Promise<void> {
    const from = join(this.#directory, "file");
    writeFileSync(from, text);
    const { code, stderr } = await this.run(`install -D -m ${mode.toString(8)} ${from} ${path}`);
    if (code !== 0) throw new Error(stderr);
  }

  /** Clients of port 8080 that do not pause; see `page-clients.js`. */
  clients(): Clients {
    return new Clients(this.#enter([process.execPath, resolve("test/support/page-clients.js")]));
  }

  #install(programs: Record<string, string>): void {
    const bin = join(this.#directory, "bin");
    mkdirSync(bin);
    symlinkSync(resolve("bin/handover.js"), join(bin, "handover"));
    for (const [name, text] of Object.entries(programs)) {
      writeFileSync(join(bin, name), text);
      chmodSync(join(bin, name), 0o755);
    }
  }

  async #start(): Promise<void> {
    const setUp =
      "mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /srv; ip link set lo up; mkdir /run/app /srv/node_modules; " +
      'ln -s "$1" /srv/node_modules/handover; ' +
      'for one in prom-client @opentelemetry; do ln -s "$1/node_modules/$one" "/srv/node_modules/$one"; done; ' +
      // A shell that waits reaps what others have left; it ends with its input.
      "cat <&0 & echo up; wait $!";
    const words = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    const child = spawn(
      "unshare",
      [...rootOfNamespace(), ...words, "bash", "-e", "-c", setUp, "sandbox", resolve(".")],
      {
        env: this.#env,
        stdio: ["pipe", "pipe", "inherit"],
      },
    );
    const ended = new Promise<never>((_, reject) =>
      child.once("close", () => reject(new Error("the sandbox did not start"))),
    );
    ended.catch(() => {});
    onTestFinished(async () => {
      child.kill("SIGKILL");
      await ended.catch(() => {});
    });
    await Promise.race([ended, new Promise((up) => child.stdout.once("data", up))]);
    this.#init = Number(readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8"));
  }

  #enter(words: string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
    const user = process.geteuid?.() === 0 ? [] : ["--user", "--preserve-credentials"];
    const enter = ["--target", String(this.#init), ...user, "--mount", "--net", "--pid", "--wd=/"];
    return spawn("nsenter", [...enter, ...words], { env: { ...this.#env, ...env }, stdio: "pipe" });
  }
}

/** Clients that run until they are told to leave. */
export class Clients {
  readonly #process: ChildProcess;
  readonly #heard: Heard[] = [];
  #tell: () => void = () => {};
  #isOver = false;

  constructor(child: ChildProcess) {
    this.#process = child;
    createInterface(child.stdout!).on("line", (line) => {
      this.#heard.push(JSON.parse(line) as Heard);
      this.#tell();
    });
    child.once("close", () => {
      this.#isOver = true;
      this.#tell();
    });
    onTestFinished(() => void child.kill("SIGKILL"));
  }

  /** Waits until one of them was answered so. */
  async answered(pattern: RegExp): Promise<void> {
    await this.#when(({ answer }) => answer !== undefined && pattern.test(answer));
  }

  /** Tells them to leave; what they have seen. */
  async leave(): Promise<{ answers: Record<string, number>; failures: string[] }> {
    this.#process.stdin!.end();
    const { answers, failures } = await this.#when(({ event }) => event === "total");
    return { answers: answers!, failures: failures! };
  }

  async #when(isMeant: (heard: Heard) => boolean): Promise<Heard> {
    for (;;) {
      const found = this.#heard.find(isMeant);
      if (found !== undefined) return found;
      if (this.#isOver) throw new Error(`the clients have ended: ${JSON.stringify(this.#heard)}`);
      await new Promise<void>((tell) => (this.#tell = tell));
    }
  }
}

/** For {@link Sandbox.run}: waits until a process answers, for a minute at most. */
export const UNTIL_SERVED =
  "timeout 60 sh -c 'until curl --silent --output /dev/null localhost:8080; do :; done'";

/** Namespaces are root's; another user may have some as the root of one. */
export function rootOfNamespace(): string[] {
  return process.geteuid?.() === 0 ? [] : ["--user", "--map-root-user"];
}

function whyNot(): string | undefined {
  const words = [...rootOfNamespace(), "--mount", "--net", "--pid", "--fork", "--mount-proc", "ip", "link"];
  return spawnSync("unshare", words).status === 0 ? undefined : "needs namespaces and iproute2";
}

/** Why a test of these programs is skipped; undefined if they are there. In CI they have to be. */
export function whyMissing(...programs: string[]): string | undefined {
  const missing = programs.filter((program) => !isInstalled(program));
  return missing.length === 0 || process.env["CI"] !== undefined ? undefined : `needs ${missing.join(", ")}`;
}

export function isInstalled(program: string): boolean {
  try {
    execFileSync("/bin/sh", ["-c", `command -v ${program}`], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
