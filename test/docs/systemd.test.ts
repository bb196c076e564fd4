import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { splitWords } from "../../dist/cli/unit-file/quote.js";
import { Page } from "../support/page.js";
import { handover } from "../support/program.js";
import { obstacle, requireInCi, Systemd, untested } from "../support/systemd.js";

const page = Page.open("systemd");
const printUnit = page.block("sh", "handover unit");
const unit = page.block("ini", "[Service]");
const socketUnit = page.block("ini", "[Socket]");
const program = page.block("js");
const [first, second] = ["systemctl start app\n", "systemctl start app.socket\n"].map((part) =>
  page.block("sh", part).trim().split("\n"),
);

test("docs/systemd.md shows the unit that handover unit prints", async () => {
  const [, words] = /^handover (unit .*)$/m.exec(printUnit)!;
  const { code, stdout } = await handover(...splitWords(words!));
  expect(code).toBe(0);
  expect(anywhere(unit)).toBe(anywhere(stdout));
});

requireInCi();

describe.skipIf(obstacle !== undefined)(`a systemd of its own${untested}`, () => {
  let systemd: Systemd;
  beforeAll(async () => {
    systemd = await Systemd.boot();
    await systemd.run("useradd", "--system", "app");
    await systemd.run("ln", "-s", ".", "/srv/app/current");
    systemd.write("/srv/app/package.json", '{ "type": "module" }');
  });
  afterAll(async () => systemd?.halt());

  async function run(commands: string[]): Promise<string[]> {
    const pids: string[] = [];
    for (const command of commands) {
      const { code, stderr } = await systemd.run("sh", "-c", command);
      expect({ command, code, stderr }).toEqual({ command, code: 0, stderr: "" });
      pids.push((await systemd.show("app"))["MainPID"]!);
    }
    return pids;
  }

  test("runs the unit, the program and the commands of docs/systemd.md", async () => {
    systemd.write("/etc/systemd/system/app.service", unit.replaceAll("/usr/bin/node", process.execPath));
    systemd.write("/srv/app/server.js", program);
    const verified = await systemd.run("systemd-analyze", "verify", "/etc/systemd/system/app.service");
    expect(verified).toMatchObject({ code: 0, stderr: "" });
    const [none, started, reloaded, same, restarted, stopped] = await run(first!);
    expect([none, stopped]).toEqual(["0", "0"]);
    expect(reloaded).toBe(same);
    expect(new Set([started, reloaded, restarted]).size).toBe(3);
    expect(await systemd.show("app")).toMatchObject({ ActiveState: "inactive", Result: "success" });

    systemd.write("/etc/systemd/system/app.socket", socketUnit);
    await run(second!);
    const { stdout } = await systemd.run("curl", "--silent", "--max-time", "15", "http://127.0.0.1:8080/");
    expect(stdout).toBe(`hello from ${(await systemd.show("app"))["MainPID"]}\n`);
    await run(["systemctl stop app.socket app"]);
  });
});

/** A unit without the version of handover and the path of Node, which are those of this machine. */
function anywhere(text: string): string {
  return text.replace(/by handover \S+\./, "by handover VERSION.").replace(/^(ExecReload=)\S+/m, "$1node");
}
