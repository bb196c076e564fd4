import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { Page } from "../support/page.js";

const page = Page.open("benchmarks");
const readme = readFileSync("README.md", "utf8");

test("every command that docs/benchmarks.md names is a script of package.json", () => {
  const { scripts } = JSON.parse(readFileSync("package.json", "utf8")) as { scripts: Record<string, string> };
  const named = [...page.text.matchAll(/npm run ([\w:]+)/g)].map(([, script]) => script!);
  expect(named.length).toBeGreaterThan(4);
  expect(Object.keys(scripts)).toEqual(expect.arrayContaining(named));
});

test("the figures of README.md are those of docs/benchmarks.md", () => {
  const table = /^\| +\| GET failed: .*\n.*\n((?:\|.*\n)+)/m.exec(readme)![1]!;
  const figures = rows(table).map(([peer, get, messages]) => [peer, get, messages]);
  const tables = page.text.matchAll(/^Requests failed per 100 upgrades:\n\n.*\n.*\n((?:\|.*\n)+)/gm);
  const [plain, secure] = [...tables].map(([, text]) => rows(text!));
  // Of each peer: without TLS, and with it.
  const pairs = plain!.map((cells, n) => {
    const both = (column: number): string => `${cells[column]}, ${secure![n]![column]}`;
    return [cells[0], both(2), both(7)];
  });
  expect(figures).toEqual(pairs);
});

/** The cells of a table's rows; of a name only the tool itself, without how it was used. */
function rows(table: string): string[][] {
  return table
    .trim()
    .split("\n")
    .map((row) =>
      row
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim().replaceAll("**", "")),
    )
    .map(([name, ...cells]) => [name!.split(",")[0]!, ...cells]);
}
