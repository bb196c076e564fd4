import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";

/** How a run of the program ended, and what it printed. */
export interface Run {
  code: number | null;
  stdout: string;
  stderr: string;
}

const PROGRAM = fileURLToPath(new URL("../../bin/handover.js", import.meta.url));

/** Runs `handover` with these arguments. */
export function handover(...args: (string | number)[]): Promise<Run> {
  return startHandover(args).ended;
}

/** Starts `handover` with these arguments; the test can watch and signal it. It is stopped at the end of the test. */
export function startHandover(
  args: readonly (string | number)[],
  env: NodeJS.ProcessEnv = {},
  cwd = ".",
): {
  ended: Promise<Run>;
  kill(signal: NodeJS.Signals): void;
  /** Closes what it prints to. */
  leave(): void;
  untilPrinted(pattern: RegExp): Promise<string>;
} {
  const child = spawn(process.execPath, [PROGRAM, ...args.map(String)], {
    cwd,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const run: Run = { code: null, stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => (run.stdout += chunk));
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => (run.stderr += chunk));
  const ended = new Promise<Run>((resolve) =>
    child.once("close", (code) => {
      run.code = code;
      resolve(run);
    }),
  );
  onTestFinished(async () => {
    child.kill("SIGTERM");
    await ended;
  });
  return {
    ended,
    kill: (signal) => void child.kill(signal),
    leave: () => {
      child.stdout.destroy();
      child.stderr.destroy();
    },
    untilPrinted: (pattern) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const [found] = pattern.exec(run.stdout) ?? [];
          if (found !== undefined) resolve(found);
        };
        child.stdout.on("data", look);
        void ended.then(() => reject(new Error(`handover ended without ${pattern}\n${run.stderr}`)));
        look();
      }),
  };
}

/** What `--json` printed. */
export function jsonLines({ stdout }: Run): Record<string, unknown>[] {
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}
