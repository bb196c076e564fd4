import { execFileSync } from "node:child_process";
import { Command } from "commander";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { addOptions, type CommandOption } from "../../dist/cli/option.js";
import { readPlainWords } from "../../dist/cli/plain-words.js";
import { wholeNumber } from "../../dist/cli/process-options.js";
import { STATUS_OPTIONS } from "../../dist/cli/status-command.js";
import { UPGRADE_OPTIONS } from "../../dist/cli/upgrade-command.js";

const COMMANDS = [STATUS_OPTIONS, UPGRADE_OPTIONS];

test("words that are read without commander mean what commander says", () => {
  const names = COMMANDS.flat().map(({ flags }) => flags.split(" ")[0]!);
  const values = ["7", "0", "x", "/run/a b", "", "-", "--", "-h", "--help", "--no-json", "--jso"];
  const word = fc.oneof(
    fc.constantFrom(...names),
    fc.constantFrom(...values),
    fc.tuple(fc.constantFrom(...names), fc.constantFrom(...values, "a=b")).map((both) => both.join("=")),
  );
  const line = fc.tuple(fc.constantFrom(...COMMANDS), fc.array(word, { maxLength: 5 }));
  for (const [options, words] of fc.sample(line, 2_000)) {
    const plain = readPlainWords(words, options, wholeNumber);
    const meant = plain === undefined ? undefined : readByCommander(words, options);
    expect([words, plain]).toEqual([words, meant]);
  }
});

test.each([
  ["", { argument: undefined, options: {} }],
  ["4711 --json", { argument: 4711, options: { json: true } }],
  ["--control=a=b", { argument: undefined, options: { control: "a=b" } }],
  ["--pid-file app.pid --json", { argument: undefined, options: { pidFile: "app.pid", json: true } }],
  [
    "--timeout 100 --dry-run --force 7",
    { argument: 7, options: { timeout: 100, dryRun: true, force: true } },
  ],
])('the words "%s" of an upgrade are read without commander', (line, plain) => {
  const words = line.split(" ").filter((word) => word !== "");
  expect(readPlainWords(words, UPGRADE_OPTIONS, wholeNumber)).toEqual(plain);
});

test.each([
  "--help",
  "1 2",
  "x",
  "--timeout 0",
  "--control",
  "--pid-file a --control b",
  "--watch 1",
  "-- 7",
])("commander reads the words %s", (line) => {
  expect(readPlainWords(line.split(" "), STATUS_OPTIONS, wholeNumber)).toBeUndefined();
});

test.each([
  [true, "status --control no/such/socket --watch"],
  [false, "status --control no/such/socket"],
  [false, "upgrade --control no/such/socket --json"],
  [false, "reload --pid-file no/such/file"],
])("whether the command loads commander: %s, for %s", (isLoaded, line) => {
  const program = `
    const { readFileSync } = require("node:fs");
    require("./dist/bundle/cli/main.js").main(${JSON.stringify(line.split(" "))}).then(() => {
      const files = Object.keys(require.cache).map((file) => readFileSync(file, "utf8"));
      console.error(files.some((text) => text.includes("commander.helpDisplayed")) ? "loaded" : "not loaded");
    });`;
  const text = execFileSync("/bin/sh", ["-c", '"$0" --eval "$1" 2>&1', process.execPath, program], {
    encoding: "utf8",
  });
  expect(text.trimEnd().split("\n").at(-1)).toBe(isLoaded ? "loaded" : "not loaded");
});

function readByCommander(words: readonly string[], options: readonly CommandOption[]): object {
  let argument: unknown;
  const command = addOptions(new Command("any").exitOverride().argument("[pid]", "", wholeNumber), options)
    .configureOutput({ outputError: () => {} })
    .action((given: unknown) => {
      argument = given;
    });
  command.parse(words, { from: "user" });
  return { argument, options: command.opts() };
}
