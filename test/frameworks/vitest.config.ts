import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/frameworks/*.test.ts"],
    globalSetup: ["test/support/build.ts", "test/support/environment.ts", "test/frameworks/set-up.ts"],
    server: { deps: { external: [/\/dist\//] } },
    // They wait for the ends of probations, most of the time.
    maxWorkers: 4,
    testTimeout: 240_000,
    hookTimeout: 240_000,
    expect: { poll: { timeout: 110_000 } },
  },
});
