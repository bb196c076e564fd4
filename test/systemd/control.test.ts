import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { obstacle, requireInCi, Systemd, untested } from "../support/systemd.js";
import { service } from "./units.js";

requireInCi();

describe.skipIf(obstacle !== undefined)(`a service without a PID file under systemd${untested}`, () => {
  let systemd: Systemd;
  let port = 8000;
  beforeAll(async () => (systemd = await Systemd.boot()));
  afterAll(async () => systemd?.halt());

  async function start(name: string, directives: Record<string, string>): Promise<string> {
    const plan = { options: "pidFile: undefined" };
    await systemd.install(service(name, ++port, { Type: "notify", ...directives }, plan));
    await systemd.manage("start", name);
    return (await systemd.show(name))["MainPID"]!;
  }

  const handover = (...args: string[]): ReturnType<Systemd["run"]> =>
    systemd.run(process.execPath, "/srv/handover/bin/handover.js", ...args);
  const sockets = async (): Promise<string[]> =>
    (await systemd.run("ls", "-A", "/run/handover")).stdout.split("\n").slice(0, -1);

  test("is reached through root's runtime directory, and leaves nothing there when it was killed and started again", async () => {
    const pid = await start("plain", { Restart: "on-failure", RestartSec: "0" });
    expect((await handover("status", "--json")).stdout).toContain(`"pid":${pid},`);
    const before = await sockets();
    await systemd.run("kill", "-KILL", pid);
    const again = await systemd.until("plain", { ActiveState: "active", NRestarts: "1", MainPID: /^[1-9]/ });
    expect((await handover("list", "--json")).stdout).toContain(`{"pid":${again["MainPID"]},`);
    expect(await sockets()).toHaveLength(1);
    expect(await sockets()).not.toEqual(before);
    await systemd.manage("stop", "plain");
    expect(await sockets()).toEqual([]);
  });

  test.each<[string, Record<string, string>]>([
    ["in a file system that it cannot write to", { ProtectSystem: "strict", PrivateTmp: "yes" }],
    ["of a user without a runtime directory", { User: "daemon", PrivateTmp: "yes" }],
    ["of a user that exists only while it runs", { DynamicUser: "yes" }],
  ])("serves without a control socket %s", async (_, directives) => {
    const name = `bare${port}`;
    // The log belongs to root.
    const pid = await start(name, { ...directives, StandardOutput: "journal", StandardError: "journal" });
    const { stdout } = await systemd.run("curl", "--silent", `http://127.0.0.1:${port}/`);
    expect(stdout).toBe(pid);
    expect((await handover("status", pid)).stderr).toMatch(
      `cannot find a control socket of process ${pid}: `,
    );
    await systemd.manage("stop", name);
  });
});
