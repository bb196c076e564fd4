import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { membersOf } from "../support/declarations.js";
import { project, runModule } from "../support/documented.js";
import { Page } from "../support/page.js";
import { Service } from "../support/service.js";

const page = Page.open("api");
const [imports, standIn, supervisor] = page.blocks("js");

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

test("docs/api.md has a row for every option of supervise(), in order", () => {
  const section = page.text.split("## handover/supervisor\n")[1]!;
  const rows = [...section.matchAll(/^\| `(\w+)`/gm)].map(([, option]) => option);
  expect(rows).toEqual(membersOf("SupervisorOptions"));
});

test("the program of docs/api.md runs two workers until it is stopped", async () => {
  const directory = project({ "supervisor.js": supervisor!, "server.js": WORKER });
  const service = Service.start("", { command: [process.execPath, "supervisor.js"], cwd: directory });
  const { worker } = await service.until("accepting");
  const other = await service.until("accepting", {}, 1);
  expect([worker, other["worker"]]).toEqual(
    expect.arrayContaining([
      { index: 0, count: 2 },
      { index: 1, count: 2 },
    ]),
  );
  await expect.poll(() => readFileSync(join(directory, "app.pid"), "utf8")).toBe(`${service.pid}\n`);
  process.kill(service.pid, "SIGTERM");
  expect(await service.exited).toEqual([0, null]);
});

const WORKER = `
import { createServer } from "node:http";
import { Upgrader } from "handover";

const upg = new Upgrader();
await upg.listen(createServer(), { port: 0 });
await upg.ready();
console.log(JSON.stringify({ event: "accepting", worker: upg.worker }));
await upg.exit;
`;
