import { availableParallelism } from "node:os";
import { configDefaults, defineConfig } from "vitest/config";
import { LongestFirst } from "./test/support/longest-first.js";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // With a configuration of their own: the frameworks are installed first.
    exclude: [...configDefaults.exclude, "test/frameworks/**"],
    globalSetup: ["test/support/build.ts", "test/support/environment.ts"],
    // Programs under test and tests alike load the built package.
    server: { deps: { external: [/\/dist\//] } },
    // They mostly wait for what real processes do: most of them need a processor for a quarter of their time.
    maxWorkers: 2 * availableParallelism(),
    sequence: { sequencer: LongestFirst },
    // Real processes on two cores: a limit for what hangs, not for what is slow.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Before that, so that it is told what was waited for. By default it is one second.
    expect: { poll: { timeout: 110_000 } },
  },
});
