import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const { scripts } = JSON.parse(readFileSync("package.json", "utf8")) as { scripts: Record<string, string> };
const BENCHMARKS = Object.entries(scripts)
  .filter(([name]) => name.startsWith("bench"))
  .map(([name, command]) => [name, command.split(" ").at(-1)!] as const);

test.each(BENCHMARKS)(
  "%s shows its options by --help, and refuses another one in a line",
  (name, program) => {
    const help = run(program, "--help");
    expect([help.status, help.stderr]).toEqual([0, ""]);
    expect(help.stdout).toMatch(new RegExp(`^\\w.*\n\n  npm run ${name} \\[-- .*\\]\n`, "s"));
    expect(run(program, "--bogus")).toEqual({
      status: 2,
      stdout: "",
      stderr: expect.stringMatching(
        /^\S+\.js: Unknown option '--bogus'; --help shows the options\n$/,
      ) as string,
    });
  },
);

test.each([
  [["--runs", "0"], `--runs must be a whole number from 1 on, not "0"`],
  [["--runs", "many"], `--runs must be a whole number from 1 on, not "many"`],
  [["--runs"], "Option '--runs <value>' argument missing"],
  [["--runs", "--json"], "Option '--runs' argument is ambiguous"],
  [["more"], "Unexpected argument 'more'"],
])("a benchmark refuses the words %j in a line", (words, why) => {
  const stderr = `start.js: ${why}; --help shows the options\n`;
  expect(run("bench/start.js", ...words)).toEqual({ status: 2, stdout: "", stderr });
});

test.each([
  ["bench/workers/run.js", "--only", "nginx", '--only may have handover, cluster, pm2, not "nginx"'],
  ["bench/workers/run.js", "--workers", "2,0", '--workers must be a whole number from 1 on, not "0"'],
  ["bench/peers/run.js", "--only", "nginx", "--only may have "],
  ["bench/global.js", "--engine", "x", '--engine may have postgres, etcd, not "x"'],
])("%s refuses %s %s in a line", (program, option, value, why) => {
  const { status, stderr } = run(program, option, value);
  expect(status).toBe(2);
  expect(stderr).toMatch(/^.+\n$/);
  expect(stderr).toContain(why);
});

test.each([
  ["bench/steady.js", "--connections", "99999999", /^\d+ descriptors are needed and \d+ allowed: .*\n$/],
  ["bench/connections.js", "--connections", "99999999", /^\d+ descriptors are needed and \d+ allowed: .*\n$/],
  [
    "bench/spawn.js",
    "--heap",
    "99999999",
    /^a heap of 99999999 MB is more than there is room for, \d+ MB: .*\n$/,
  ],
])("%s refuses %s %s, which it cannot have, before it starts anything", (program, option, value, why) => {
  const { status, stdout, stderr } = run(program, option, value);
  expect([status, stdout]).toEqual([1, ""]);
  expect(stderr).toMatch(why);
});

function run(...words: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, words, { encoding: "utf8" });
  return { status, stdout, stderr };
}
