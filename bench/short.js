// Runs the benchmarks of starts, of the time between upgrades, of spawning and of moving, each in short: for a first look, not
// for figures to publish.
//
//   npm run bench [-- --json]
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { bold } from "./statistics.js";

const { values } = parseArgs({ options: { json: { type: "boolean" } } });

const BENCHMARKS = {
  start: ["--runs", "5"],
  steady: ["--rounds", "8", "--connections", "1000"],
  spawn: ["--runs", "10", "--heap", "500"],
  connections: ["--connections", "2000", "--upgrades", "3"],
};

for (const [name, options] of Object.entries(BENCHMARKS)) {
  if (!values.json) console.log(`\n${bold(`bench:${name} ${options.join(" ")}`)}\n`);
  const file = fileURLToPath(new URL(`${name}.js`, import.meta.url));
  const words = ["--max-old-space-size=8192", file, ...options, ...(values.json ? ["--json"] : [])];
  const { status, signal } = spawnSync(process.execPath, words, { stdio: "inherit" });
  if (status !== 0) {
    console.error(
      `bench:${name} ${signal === null ? `exited with code ${status}` : `was ended by ${signal}`}`,
    );
    process.exit(1);
  }
}
