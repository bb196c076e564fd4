import { expect, test } from "vitest";
import { membersOf } from "../support/declarations.js";
import { runModule } from "../support/documented.js";
import { Page } from "../support/page.js";

const page = Page.open("api");
const [imports, standIn] = page.blocks("js");

const headings = page.headings(3).map((heading) => /^(?:Event )?\w+/.exec(heading)![0]);

test("docs/api.md has a heading for every option of new Upgrader()", () => {
  expect(headings).toEqual(expect.arrayContaining(membersOf("UpgraderOptions")));
});

test("docs/api.md has a heading for every member of Upgrader", () => {
  expect(headings).toEqual(expect.arrayContaining(membersOf("Upgrader")));
});

test("docs/api.md has a heading for every event", () => {
  expect(headings).toEqual(
    expect.arrayContaining(membersOf("UpgraderEvents").map((event) => `Event ${event}`)),
  );
});

test("every heading of docs/api.md is about an option, a member or an event", () => {
  const known = [
    ...membersOf("UpgraderOptions"),
    ...membersOf("Upgrader"),
    ...membersOf("UpgraderEvents").map((event) => `Event ${event}`),
  ];
  expect(headings.filter((heading) => !known.includes(heading))).toEqual([]);
});

test.each(["ListenOptions", "BindOptions", "CommandOverride", "UpgradeResult", "UpgradeRecord", "Fds"])(
  "docs/api.md names every member of %s",
  (type) => {
    const named = new Set([...page.text.matchAll(/\w+/g)].map(([word]) => word));
    expect(membersOf(type).filter((member) => !named.has(member))).toEqual([]);
  },
);

test("the imports of docs/api.md are what the package exports", async () => {
  expect(
    await runModule(
      `${imports}console.log(typeof Upgrader, typeof HandoverError, typeof http, jsonCodec.name, typeof v8Codec);`,
    ),
  ).toBe("function function function json object\n");
});

test("the stand-in of docs/api.md is chosen by the platform", async () => {
  const printed = "console.log(await new Upgrader().upgrade().catch(({ code }) => code)); process.exit();";
  const onWindows = `Object.defineProperty(process, "platform", { value: "win32" });\n`;
  expect(await runModule(standIn + printed)).toBe("ERR_NOT_READY\n");
  expect(await runModule(onWindows + standIn + printed)).toBe("ERR_NOT_SUPPORTED\n");
});
