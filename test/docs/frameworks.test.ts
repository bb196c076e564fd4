import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { Page } from "../support/page.js";

const page = Page.open("frameworks");
const blocks = ["js", "ts"].flatMap((language) => page.blocks(language));
const [unchanged, nitro, reactRouter] = page.blocks("sh");
const { dependencies } = JSON.parse(readFileSync("test/frameworks/package.json", "utf8")) as {
  dependencies: Record<string, string>;
};
const rows = [...page.text.matchAll(/^\| (\[.*?\]\(#.*)$/gm)].map(([, row]) => row!.split("|"));
const suite = readdirSync("test/frameworks")
  .filter((name) => name.endsWith(".test.ts"))
  .map((name) => readFileSync(`test/frameworks/${name}`, "utf8"))
  .join("\n");

test.each(blocks.map((block) => [block.split("\n")[0]!, block]))(
  "the block %s of docs/frameworks.md is a part of a program that the suite upgrades",
  (title, block) => {
    const [directory, file] = title.slice("// ".length).split("/") as [string, string];
    const text = readFileSync(`test/frameworks/apps/${directory}/${file}`, "utf8");
    expect(text).toContain(block.slice(title.length + 1));
    expect(suite).toContain(`"${directory}"`);
    expect(suite).toContain(`${file.replace(/(?<=server.*)\.ts$/, ".js")}"`);
  },
);

test("every framework of docs/frameworks.md is tested in the version that the page names", () => {
  const named = [...page.text.matchAll(/`([@\w./-]+)`(?: is tested as)? (\d+\.\d+\.\d+)/g)];
  const versions = named.map(([, name, version]) => [name, version]);
  expect(versions.length).toBeGreaterThan(15);
  const pinned = versions.map(([name]) => [name, dependencies[name!]?.split("@").at(-1)]);
  expect(versions).toEqual(pinned);
});

test("the suite pins the version of every package", () => {
  const loose = Object.entries(dependencies).filter(([, version]) => !/^(npm:\w+@)?[\d.]+$/.test(version));
  expect(loose).toEqual([]);
});

test("docs/frameworks.md has a section for each row of its table", () => {
  const anchors = rows.map(([cell]) => /\(#(.*?)\)/.exec(cell!)![1]!);
  const headings = page.headings(2).map((title) => title.toLowerCase().replaceAll(/[^\w -]/g, ""));
  expect(headings.map((title) => title.replaceAll(" ", "-"))).toEqual(expect.arrayContaining(anchors));
});

test("the commands of docs/frameworks.md start what the suite starts", () => {
  const [server, next, run] = unchanged!.trim().split("\n");
  expect(server).toBe("node --import handover/auto server.js");
  expect(run).toBe("handover run --auto -- next start");
  expect(suite).toContain('"--", "next", "start"');
  for (const command of [next, nitro, reactRouter]) {
    const [file, ...args] = command!.trim().slice("node --import handover/auto ".length).split(" ");
    expect(suite).toContain(file);
    expect(args.filter((word) => !suite.includes(`"${word}"`))).toEqual([]);
  }
});
