import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../support/service.js";

interface Run {
  code: number;
  stdout: string;
  stderr: string;
}

/** As `npm run example:hosts` does. */
async function run(env: NodeJS.ProcessEnv = {}): Promise<Run> {
  return new Promise((resolve) => {
    const options = { env: { ...process.env, NO_COLOR: "1", ...env } };
    const child = execFile("npm", ["run", "--silent", "example:hosts"], options, (_, stdout, stderr) =>
      resolve({ code: child.exitCode!, stdout, stderr }),
    );
  });
}

test("npm run example:hosts deploys a chat of two hosts live, each room moves to a new host once, and nothing that was said is lost", async () => {
  const { code, stdout, stderr } = await run();
  expect(stderr).toBe("");
  expect(stdout).toMatch(/^\d+ things were said, and each member has heard all of its room in one order$/m);
  expect(code).toBe(0);
  const lines = stdout.split("\n");
  const [, directory] = /^PostgreSQL \d.* in (\/.*)$/.exec(lines[0]!)!;
  expect(existsSync(directory!)).toBe(false);
  for (const room of ["lobby", "garden", "attic", "cellar"]) {
    const [, from] = new RegExp(`^  room ${room} is on ([AB])$`, "m").exec(stdout)!;
    const moves = lines.filter((line) => line.startsWith(`  room ${room}: `));
    // Each of its two members. On a busy machine B may not know yet that C is there, and take what A gives up.
    const arrivals = moves.filter((move) => /: [AB] → [CD], a member was \d+ ms without it$/.test(move));
    expect(arrivals).toHaveLength(2);
    const detours = moves.filter((move) => !arrivals.includes(move));
    for (const move of detours) expect(`${from!}: ${move}`).toMatch(/^A: .*: A → B, a member was \d+ ms/);
  }
  expect(lines.filter((line) => line.endsWith("has left"))).toHaveLength(4);
  expect(stdout).not.toContain("\u001b");
});

test("without PostgreSQL npm run example:hosts says so, and exits with 1", async () => {
  const { code, stdout, stderr } = await run({ POSTGRES_BIN: temporaryDirectory() });
  expect(code).toBe(1);
  expect(stdout).toBe("");
  expect(stderr).toMatch(
    /^PostgreSQL is not installed: there is no initdb in .*\. Install it .* POSTGRES_BIN\.$/m,
  );
});
