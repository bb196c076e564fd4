import { Command } from "commander";
import type { DemoOptions } from "./demo.js";
import { wholeNumber } from "../process-options.js";

/** `handover demo` */
export function demoCommand(): Command {
  return new Command("demo")
    .summary("upgrade a demo server under load, and count failed requests")
    .description(
      "Starts a demo HTTP server on a free port of this machine, keeps it busy, and upgrades it repeatedly. " +
        "No client retries a request, so every request that an upgrade breaks is counted.",
    )
    .option("--upgrades <n>", "number of upgrades", wholeNumber, 10)
    .option("--json", "print JSON, one object per line")
    .addHelpText("after", EXAMPLES)
    .action(run);
}

const EXAMPLES = `
Examples:
  $ handover demo
  $ handover demo --upgrades 3 --json

Exit codes: 0 no request failed, 1 a request failed, 2 wrong usage.`;

/** Loads the demo only when it runs: most calls of the command are about another process. */
async function run(options: DemoOptions): Promise<void> {
  const { demo } = await import("./demo.js");
  await demo(options);
}
