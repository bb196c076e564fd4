import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/frameworks/*.test.ts"],
    // The installation may need the certificates that the environment of the tests goes without.
    globalSetup: ["test/support/build.ts", "test/frameworks/set-up.ts", "test/support/environment.ts"],
    server: { deps: { external: [/\/dist\//] } },
    // They wait for the ends of probations, most of the time.
    maxWorkers: 4,
    testTimeout: 240_000,
    hookTimeout: 240_000,
    expect: { poll: { timeout: 110_000 } },
  },
});
