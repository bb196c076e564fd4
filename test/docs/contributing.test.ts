import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, normalize } from "node:path";
import { expect, test } from "vitest";
import { Page } from "../support/page.js";

const page = Page.open("CONTRIBUTING.md");
const commands = page.block("sh");

const sources = readdirSync("src", { recursive: true, encoding: "utf8" }).filter((name) =>
  name.endsWith(".ts"),
);
/** The loose files and the folders of `src/`. */
const entries = [...new Set(sources.map(entryOf))].toSorted();

/** The number of the row in which an entry stands. */
const rows = new Map(
  [...page.text.matchAll(/^(\d+)\. (`.*`)$/gm)].flatMap(([, row, names]) =>
    [...names!.matchAll(/`([\w.]+)\/?`/g)].map(([, name]) => [name!, Number(row)] as const),
  ),
);

test("the commands of CONTRIBUTING.md are scripts of package.json and files of the tests", () => {
  const { scripts } = JSON.parse(readFileSync("package.json", "utf8")) as { scripts: Record<string, string> };
  const named = [...page.text.matchAll(/`?npm run ([\w:-]+)|`(bench:\w+)`/g)].map(
    ([, one, other]) => one ?? other!,
  );
  expect(Object.keys(scripts)).toEqual(expect.arrayContaining(named));
  const paths = commands.match(/test\/\S+/g)!;
  expect(paths.filter((path) => !existsSync(path))).toEqual([]);
});

test("CONTRIBUTING.md describes every file and folder of src", () => {
  const described = [...page.text.matchAll(/^\| `([\w.]+)\/?` +\|/gm)].map(([, name]) => name!);
  expect(described.toSorted()).toEqual(entries);
  expect([...rows.keys()].toSorted()).toEqual(entries);
});

test("every file of src imports only from rows of CONTRIBUTING.md above its own", () => {
  const upward = sources.flatMap((source) =>
    importsOf(source)
      .filter((target) => entryOf(target) !== entryOf(source))
      .filter((target) => rows.get(entryOf(target))! >= rows.get(entryOf(source))!)
      .map((target) => `${source} imports ${target}`),
  );
  expect(upward).toEqual([]);
});

function importsOf(source: string): string[] {
  const text = readFileSync(join("src", source), "utf8");
  return [...text.matchAll(/ from "(\.[^"]+)\.js"/g)].map(
    ([, path]) => `${normalize(join(source, "..", path!))}.ts`,
  );
}

function entryOf(source: string): string {
  return source.split("/")[0]!;
}
