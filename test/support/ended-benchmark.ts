import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { expect, onTestFinished } from "vitest";
import { temporaryDirectory } from "./service.js";

/** A benchmark that a signal has ended. */
interface EndedBenchmark {
  /** Its exit code and the signal that has killed it. */
  readonly how: unknown[];
  /** The commands of its processes that run. */
  readonly commands: () => string[];
  /** Its temporary files. */
  readonly files: () => string[];
}

/** Sends a benchmark a signal when a program that it starts runs. */
export async function endBenchmark(
  signal: NodeJS.Signals,
  program: string,
  [benchmark, ...options]: readonly [string, ...string[]],
): Promise<EndedBenchmark> {
  const directory = temporaryDirectory();
  // A database runs as another user.
  chmodSync(directory, 0o755);
  const env = { ...process.env, TMPDIR: directory };
  const child = spawn(process.execPath, [`bench/${benchmark}`, ...options], { env, stdio: "ignore" });
  const exited = once(child, "exit");
  onTestFinished(() => {
    for (const pid of processesIn(directory).keys()) process.kill(pid, "SIGKILL");
  });
  const commands = (): string[] => [...processesIn(directory).values()];
  const isStarted = (): boolean => commands().some((command) => command.includes(program));
  await expect.poll(isStarted, { timeout: 60_000, interval: 10 }).toBe(true);
  child.kill(signal);
  return { how: await exited, commands, files: () => readdirSync(directory) };
}

/**
 * The processes that have a directory for temporary files, or run in it, as PostgreSQL overwrites its variables: their commands by
 * their PIDs.
 */
function processesIn(directory: string): Map<number, string> {
  const found = readdirSync("/proc").flatMap((pid): [number, string][] => {
    try {
      const isIn =
        readFileSync(`/proc/${pid}/environ`, "utf8").includes(`TMPDIR=${directory}`) ||
        readlinkSync(`/proc/${pid}/cwd`).startsWith(directory);
      return isIn ? [[Number(pid), readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")]] : [];
    } catch {
      // It is no process, or has ended.
      return [];
    }
  });
  return new Map(found);
}
