// Runs a service whose processes report each event that a benchmark needs as one line of JSON on stdout.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { atEnd, fail } from "./at-end.js";

/** ms; an event that takes longer never comes. */
const EVENT_TIMEOUT = 60_000;

/** Starts a program of this directory. The benchmark fails if an event does not come. */
export function startService(program, settings) {
  // Extra certificates triple the time that Node takes to start.
  const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env;
  const child = spawn(process.execPath, [fileURLToPath(new URL(program, import.meta.url))], {
    env: { ...env, ...settings },
    // A process group of its own can be killed as a whole, whichever generations are in it by then.
    detached: true,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const group = Number(child.pid);
  const events = [];
  const waiting = [];
  createInterface({ input: child.stdout }).on("line", (line) => {
    const event = JSON.parse(line);
    const index = waiting.findIndex(({ what }) => what === event.what);
    if (index < 0) events.push(event);
    else waiting.splice(index, 1)[0].resolve(event);
  });
  return {
    pid: child.pid,
    /** Resolves when the first process has exited. */
    exited: once(child, "exit"),
    /** The next event called `what`; each event is returned once. */
    async next(what) {
      const index = events.findIndex((event) => event.what === what);
      if (index >= 0) return events.splice(index, 1)[0];
      const timer = setTimeout(() => fail(`no event "${what}" within ${EVENT_TIMEOUT} ms`), EVENT_TIMEOUT);
      return new Promise((resolve) => waiting.push({ what, resolve })).finally(() => clearTimeout(timer));
    },
    end: atEnd(() => {
      try {
        process.kill(-group, "SIGKILL");
      } catch {
        // Every process has exited.
      }
    }),
  };
}
