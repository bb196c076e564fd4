import { describe, expect, test } from "vitest";
import { Page } from "../support/page.js";
import { Sandbox } from "../support/sandbox.js";

const page = Page.open("what-moves");
// Each upgrade waits for the end of probation.
const brief = (program: string): string => program.replace("{ pidFile", "{ probation: 300, pidFile");
const events = brief(page.block("js", "// events.js"));
const reports = brief(page.block("js", "// reports.js"));

const UPGRADE = "handover upgrade --pid-file /run/app/app.pid";

describe.skipIf(Sandbox.missing)(`a host of its own${Sandbox.why}`, () => {
  test("continues the event streams of docs/what-moves.md in the successor", async () => {
    const sandbox = await startProgram(events);
    await sandbox.run("mkfifo /srv/seen; curl --silent --no-buffer localhost:8080 >/srv/seen &");
    const upgraded = await sandbox.run(
      `exec 3</srv/seen; for n in 1 2 3; do read line <&3; done; ${UPGRADE} >&2; cat <&3`,
    );
    expect(upgraded.code).toBe(0);
    // curl would report a stream that was cut.
    const last = [...upgraded.stdout.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id)).at(-1) ?? 1;
    const again = await sandbox.run(
      `curl --silent --no-buffer -H "last-event-id: ${last}" localhost:8080 | head -n 2`,
    );
    expect(again.stdout).toBe(`id: ${last + 1}\ndata: generation 1\n`);
  });

  test("runs the role of docs/what-moves.md in one process at a time", async () => {
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

async function startProgram(program: string): Promise<Sandbox> {
  const sandbox = await Sandbox.start();
  await sandbox.write("/srv/app/package.json", '{ "type": "module" }');
  await sandbox.write("/srv/app/server.js", program);
  await sandbox.run("node /srv/app/server.js >/srv/log 2>&1 & until [ -e /run/app/app.pid ]; do :; done");
  return sandbox;
}
