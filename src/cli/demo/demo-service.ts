import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ControlClient } from "../../control/client.js";
import { HandoverError } from "../../errors.js";
import { ownPackage } from "../../platform/installation.js";

/** The demo server, and the generations that follow it. */
export interface Service {
  readonly url: string;
  readonly port: number;
  /** The only generation that may answer new connections now. */
  readonly generation: number;
  /**
   * Upgrades it, and waits for the end of probation.
   *
   * @param onCommit receives the ms from the request to the commit
   */
  upgrade(onCommit: (ms: number) => void): Promise<{ pid: number; generation: number; ms: number }>;
}

/**
 * Runs `work` with a server of its own. No process and no file is left, even if `work` fails.
 *
 * @param signal stops the server and rejects when it is aborted
 */
export async function withService(
  signal: AbortSignal,
  work: (service: Service) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "handover-demo-"));
  const server = new DemoServer(join(directory, "demo.pid"));
  try {
    await Promise.race([aborted(signal), server.failed, server.listening.then(() => work(server))]);
    await server.stop();
  } finally {
    await server.kill();
    rmSync(directory, { recursive: true, force: true });
  }
}

const SERVER = join(ownPackage(), "examples", "demo-server.js");

class DemoServer implements Service {
  /** Resolves when the first generation accepts. */
  readonly listening: Promise<void>;
  /** Rejects if every process of the server has exited without having been asked to. */
  readonly failed: Promise<never>;
  url = "";
  port = 0;
  generation = 0;
  readonly #control: string;
  readonly #process: ChildProcess;
  /** Resolves when every process has exited: they share the pipe that they print to. */
  readonly #gone: Promise<void>;
  #isGone = false;
  #isStopping = false;
  #printed = "";

  constructor(pidFile: string) {
    this.#control = `${pidFile}.sock`;
    const env = { ...process.env, PID_FILE: pidFile, PORT: "0", PROBATION };
    // A process group of its own can be killed as a whole, whichever generations are in it by then.
    this.#process = spawn(process.execPath, [SERVER], {
      env,
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#gone = new Promise((resolve) =>
      this.#process.once("close", () => {
        this.#isGone = true;
        resolve();
      }),
    );
    this.listening = new Promise((resolve) => {
      const read = (chunk: string): void => {
        this.#printed = (this.#printed + chunk).slice(-MAX_PRINTED);
        const [url, port] = /http:\S+:(\d+)/.exec(this.#printed) ?? [];
        if (url === undefined || this.port !== 0) return;
        this.url = url;
        this.port = Number(port);
        resolve();
      };
      this.#process.stdout!.setEncoding("utf8").on("data", read);
      this.#process.stderr!.setEncoding("utf8").on("data", read);
    });
    this.failed = this.#gone.then(() => {
      if (this.#isStopping) return new Promise<never>(() => {});
      const output = this.#printed.trim() || "nothing";
      throw new HandoverError("ERR_CONTROL", `the demo server exited; its output was: ${output}`);
    });
    this.failed.catch(() => {});
  }

  async upgrade(onCommit: (ms: number) => void): Promise<{ pid: number; generation: number; ms: number }> {
    const client = await ControlClient.connect(this.#control);
    const start = performance.now();
    let ms = 0;
    const { pid, generation } = await client.ask({ command: "upgrade" }, (phase) => {
      if (phase.phase !== "committed") return;
      ms = performance.now() - start;
      this.generation = phase.generation;
      onCommit(ms);
    });
    return { pid, generation, ms };
  }

  /** Stops the server, and waits until every generation has exited. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    const client = await ControlClient.connect(this.#control);
    await client.ask({ command: "stop" });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const error = new HandoverError("ERR_CONTROL", "the demo server did not exit after it was stopped");
      timer = setTimeout(() => reject(error), STOP_TIMEOUT);
    });
    await Promise.race([this.#gone, late]).finally(() => clearTimeout(timer));
  }

  /** Kills every process that is left. */
  async kill(): Promise<void> {
    this.#isStopping = true;
    if (!this.#isGone) killGroup(this.#process.pid);
    await this.#gone;
  }
}

/** ms; short, as an upgrade has to wait for the end of the last one's probation. */
const PROBATION = "1000";

/** ms */
const STOP_TIMEOUT = 10_000;

/** Characters of the server's output that are kept for an error message. */
const MAX_PRINTED = 4_000;

function killGroup(leader: number | undefined): void {
  try {
    if (leader !== undefined) process.kill(-leader, "SIGKILL");
  } catch {
    // No process is left.
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const abort = (): void => reject(signal.reason as Error);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
  });
}
