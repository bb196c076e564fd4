import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { Page } from "../support/page.js";
import { Sandbox } from "../support/sandbox.js";

const page = Page.open("what-moves");
// With a shorter probation than the default, which each upgrade waits for.
const brief = (program: string): string => program.replace("{ pidFile", "{ probation: 300, pidFile");
const events = brief(page.block("js", "// events.js"));
const reports = brief(page.block("js", "// reports.js"));

const UPGRADE = "handover upgrade --pid-file /run/app/app.pid";

describe.skipIf(Sandbox.missing)(`the program of the page${Sandbox.why}`, () => {
  test("ends event streams, and goes on with them in the next process", async () => {
    const sandbox = await startProgram(events);
    await sandbox.run("mkfifo /srv/seen; curl --silent --no-buffer localhost:8080 >/srv/seen &");
    const upgraded = await sandbox.run(
      `exec 3</srv/seen; for n in 1 2 3; do read line <&3; done; ${UPGRADE} >&2; cat <&3`,
    );
    expect(upgraded.code).toBe(0);
    // It has ended in order, which curl would say.
    const last = [...upgraded.stdout.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id)).at(-1) ?? 1;
    const again = await sandbox.run(
      `curl --silent --no-buffer -H "last-event-id: ${last}" localhost:8080 | head -n 2`,
    );
    expect(again.stdout).toBe(`id: ${last + 1}\ndata: generation 1\n`);
  });

  test("does its work in one process at a time", async () => {
    const sandbox = await startProgram(reports);
    await sandbox.run("until grep -q 'generation 0' /srv/log; do :; done");
    expect(await sandbox.run(UPGRADE)).toMatchObject({ code: 0 });
    await sandbox.run("until grep -q 'generation 1' /srv/log; do :; done");
    expect(await sandbox.run("handover stop --pid-file /run/app/app.pid")).toMatchObject({ code: 0 });
    const generations = (await sandbox.run("cat /srv/log")).stdout.trim().split("\n");
    expect(generations).toEqual(generations.toSorted());
    expect(new Set(generations).size).toBe(2);
  });
});

test("the page's protocols are the README's", () => {
  const readme = readFileSync("README.md", "utf8");
  // UDP has a table of its own here.
  const here = [...protocols(page.text), "UDP"];
  expect(protocols(readme).filter((one) => !here.includes(one))).toEqual([]);
});

/** Of the table whose first column is called so. */
function protocols(text: string): string[] {
  const [, table] = /^\| protocol .*\n\|[- |]*\n((?:\|.*\n)+)/m.exec(text)!;
  return table!.split("\n").flatMap((row) => /^\| ([\w/. -]+)/.exec(row)?.[1]?.trim() ?? []);
}

async function startProgram(program: string): Promise<Sandbox> {
  const sandbox = await Sandbox.start();
  await sandbox.write("/srv/app/package.json", '{ "type": "module" }');
  await sandbox.write("/srv/app/server.js", program);
  await sandbox.run("node /srv/app/server.js >/srv/log 2>&1 & until [ -e /run/app/app.pid ]; do :; done");
  return sandbox;
}
