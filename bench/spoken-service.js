// A service that says a line of JSON for each thing that a benchmark has to know, whichever of its processes says it.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** ms: whoever takes longer is broken. */
const PATIENCE = 60_000;

/**
 * Starts a program of this directory.
 *
 * @param fail is told why the benchmark cannot go on
 */
export function startService(program, settings, fail) {
  // Extra certificates triple the time that Node takes to start.
  const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env;
  const child = spawn(process.execPath, [fileURLToPath(new URL(program, import.meta.url))], {
    env: { ...env, ...settings },
    // A process group of its own can be ended as a whole, whoever is in it by then.
    detached: true,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const group = Number(child.pid);
  const heard = [];
  const waiting = [];
  createInterface({ input: child.stdout }).on("line", (line) => {
    const said = JSON.parse(line);
    const index = waiting.findIndex(({ what }) => what === said.what);
    if (index < 0) heard.push(said);
    else waiting.splice(index, 1)[0].resolve(said);
  });
  return {
    pid: child.pid,
    /** Each thing that was said is heard once. */
    async hear(what) {
      const index = heard.findIndex((said) => said.what === what);
      if (index >= 0) return heard.splice(index, 1)[0];
      const timer = setTimeout(() => fail(`nobody said ${what} in time`), PATIENCE);
      return new Promise((resolve) => waiting.push({ what, resolve })).finally(() => clearTimeout(timer));
    },
    end() {
      try {
        process.kill(-group, "SIGKILL");
      } catch {
        // Nobody is left.
      }
    },
  };
}
