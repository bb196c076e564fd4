// Runs the benchmarks of starts, of the time between upgrades, of TLS, of spawning, of moving and of workers, each in short: for a
// first look, not for figures to publish.
//
//   npm run bench [-- --json]
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { atEnd } from "./at-end.js";
import { FLAG, readOptions } from "./options.js";
import { bold } from "./statistics.js";

const { json } = readOptions(import.meta.url, { json: FLAG });

/** Those whose program is not a file of their name. */
const PROGRAMS = { workers: "workers/run.js" };

const BENCHMARKS = {
  start: ["--runs", "5"],
  steady: ["--rounds", "8", "--connections", "1000"],
  tls: ["--runs", "4"],
  spawn: ["--runs", "10", "--heap", "500"],
  connections: ["--connections", "2000", "--upgrades", "3"],
  workers:
    "--only handover,cluster --workers 2 --rounds 4 --connections 500 --upgrades 2 --kills 5 --rare-kills 0 --scales 1 --rest 5 --growth 3".split(
      " ",
    ),
};

for (const [name, options] of Object.entries(BENCHMARKS)) {
  if (!json) console.log(`\n${bold(`bench:${name} ${options.join(" ")}`)}\n`);
  const file = fileURLToPath(new URL(PROGRAMS[name] ?? `${name}.js`, import.meta.url));
  const words = ["--max-old-space-size=8192", file, ...options, ...(json ? ["--json"] : [])];
  const child = spawn(process.execPath, words, { stdio: "inherit" });
  const exited = once(child, "exit");
  // It ends its own servers.
  atEnd(async () => {
    child.kill("SIGTERM");
    await exited;
  });
  const [code, signal] = await exited;
  if (code !== 0) {
    console.error(`bench:${name} ${signal === null ? `exited with code ${code}` : `was ended by ${signal}`}`);
    process.exitCode = code ?? 1;
    break;
  }
}
