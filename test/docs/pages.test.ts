import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { expect, test } from "vitest";

const docs = readdirSync("docs").map((name) => join("docs", name));
const pages = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", ...docs];

test.each(docs)("%s has a test that claims its blocks, and a link in README.md", (page) => {
  expect(existsSync(page.replace(/^(.*)\.md$/, "test/$1.test.ts"))).toBe(true);
  expect(readFileSync("README.md", "utf8")).toContain(`](${page})`);
});

test.each(pages)("every link of %s leads to a file and to a heading of it", (page) => {
  const links = [...prose(page).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link!);
  const dead = links.filter((link) => !/^https?:/.test(link) && !leads(page, link));
  expect(dead).toEqual([]);
});

test.each(pages)("%s has no path of the machine on which it was written", (page) => {
  expect(readFileSync(page, "utf8")).not.toMatch(/\/(work|home|root)\//);
});

function leads(from: string, link: string): boolean {
  const [path = "", anchor] = link.split("#");
  const to = path === "" ? from : normalize(join(dirname(from), path));
  if (!existsSync(to)) return false;
  return anchor === undefined || anchors(to).includes(anchor);
}

/** As GitHub makes them of headings. */
function anchors(page: string): string[] {
  return [...prose(page).matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}_ -]/gu, "")
      .replaceAll(" ", "-"),
  );
}

/** Without its blocks of code. */
function prose(page: string): string {
  return readFileSync(page, "utf8").replaceAll(/^```[^]*?^```$/gm, "");
}
