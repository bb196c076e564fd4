import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { obstacle, requireInCi, Systemd, untested } from "../support/systemd.js";

const page = readFileSync("docs/systemd.md", "utf8");
const blocks = [...page.matchAll(/^```(\w+)\n([^]*?)^```/gm)].map(([, kind, text]) => ({
  kind,
  text: text!,
}));
const files = Object.fromEntries(
  blocks.flatMap(({ text }) => {
    const path = /^(?:#|\/\/) (\/\S+)\n/.exec(text)?.[1];
    return path === undefined ? [] : [[path, text.replaceAll("/usr/bin/node", process.execPath)]];
  }),
);
const [first, second] = blocks.filter(({ kind }) => kind === "sh").map(({ text }) => text.trim().split("\n"));

requireInCi();

describe.skipIf(obstacle !== undefined)(`docs/systemd.md${untested}`, () => {
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

  test("its unit passes systemd-analyze verify, and its commands do what they say", async () => {
    const { "/etc/systemd/system/app.socket": socketUnit, ...others } = files;
    for (const [path, text] of Object.entries(others)) systemd.write(path, text);
    const verified = await systemd.run("systemd-analyze", "verify", "/etc/systemd/system/app.service");
    expect(verified).toMatchObject({ code: 0, stderr: "" });
    const [none, started, reloaded, same, restarted, stopped] = await run(first!);
    expect([none, stopped]).toEqual(["0", "0"]);
    expect(reloaded).toBe(same);
    expect(new Set([started, reloaded, restarted]).size).toBe(3);
    expect(await systemd.show("app")).toMatchObject({ ActiveState: "inactive", Result: "success" });

    systemd.write("/etc/systemd/system/app.socket", socketUnit!);
    await run(second!);
    const { stdout } = await systemd.run("curl", "--silent", "--max-time", "15", "http://127.0.0.1:8080/");
    expect(stdout).toBe(`hello from ${(await systemd.show("app"))["MainPID"]}\n`);
    await run(["systemctl stop app.socket app"]);
  });
});
