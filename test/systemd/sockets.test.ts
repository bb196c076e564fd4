import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Load } from "../support/load.js";
import { obstacle, requireInCi, Systemd, untested } from "../support/systemd.js";
import { program, service, socket, type Plan } from "./units.js";

requireInCi();

describe.skipIf(obstacle !== undefined)(`listeners under systemd${untested}`, () => {
  let systemd: Systemd;
  let port = 9000;
  beforeAll(async () => (systemd = await Systemd.boot()));
  afterAll(async () => systemd?.halt());

  async function install(name: string, directives: Record<string, string>, plan: Plan = {}): Promise<number> {
    await systemd.install(service(name, ++port, { Type: "notify", ...directives }, plan));
    return port;
  }

  const fetch = (url: string, ...options: string[]): Promise<string> =>
    systemd
      .run("curl", "--silent", "--show-error", "--max-time", "15", ...options, url)
      .then((ended) => ended.stdout);
  const get = (on: number): Promise<string> => fetch(`http://127.0.0.1:${on}/`);
  const main = async (name: string): Promise<string> => (await systemd.show(name))["MainPID"]!;

  async function isClean(name: string): Promise<void> {
    await systemd.manage("stop", name);
    expect(await systemd.show(name)).toMatchObject({ ActiveState: "inactive", Result: "success" });
  }

  test.each<[string, Record<string, string>, (on: number) => string]>([
    ["by-address", {}, (on) => `{ port: ${on}, host: "127.0.0.1" }`],
    ["by-name", { FileDescriptorName: "web" }, () => `{ port: 1, name: "web" }`],
  ])("a socket unit's listener is found %s, and a restart refuses no client", async (name, named, listen) => {
    const on = await install(name, { Restart: "always", RestartSec: "0" }, { listen: listen(port + 1) });
    await systemd.install(socket(name, { ListenStream: `127.0.0.1:${on}`, ...named }));
    await systemd.manage("start", `${name}.socket`);
    // The first client is what starts the service, and waits until it is ready.
    const first = await get(on);
    expect(first).toBe(await main(name));
    const load = await Load.on(systemd, on);
    await systemd.manage("restart", name);
    await load.answered(50);
    await systemd.manage("reload", name);
    await load.answered(50);
    await systemd.manage("restart", name);
    await load.answered(50);
    const { failures, pids } = await load.stop();
    expect(failures).toEqual({});
    expect(Object.keys(pids)).toHaveLength(4);
    expect(systemd.printed(name)).not.toMatch(/warning|error/i);

    const killed = await Load.on(systemd, on);
    await systemd.manage("kill", "--signal=KILL", name);
    await killed.answered(50);
    // Those that the dead process held are lost; nobody is refused.
    expect(Object.keys((await killed.stop()).failures)).toEqual(["ECONNRESET"]);
    await systemd.manage("stop", `${name}.socket`);
    await isClean(name);
  });

  test("a socket on which the program does not listen is reported, and inherited by new code that does", async () => {
    const name = "several";
    const on = await install(name, {});
    const other = ++port;
    const path = "/run/several.sock";
    await systemd.install(socket(name, { ListenStream: [`127.0.0.1:${on}`, `127.0.0.1:${other}`, path] }));
    await systemd.manage("start", `${name}.socket`);
    expect(await get(on)).toBe(await main(name));
    expect(systemd.printed(name)).toContain(
      `systemd has passed several.socket (127.0.0.1:${other}), several.socket (${path}), but nothing listens on it; `,
    );
    // They are in nobody's way, and need no place in the descriptor store.
    const doctor = await systemd.run(
      process.execPath,
      "/srv/handover/bin/handover.js",
      "doctor",
      name,
      "--json",
    );
    expect((JSON.parse(doctor.stdout) as { findings: object[] }).findings).toEqual(
      expect.arrayContaining([
        { check: "listeners", severity: "ok", what: "the next process inherits every listener" },
        { check: "descriptor-store", severity: "ok", what: "FileDescriptorStoreMax=0" },
      ]),
    );
    await systemd.manage("reload", name);

    const more = `const also = (listen) => upg.listen(createServer((_, response) => response.end(String(process.pid))), listen);
      await also({ port: ${other}, host: "localhost" });
      await also({ path: "${path}" });`;
    systemd.write(`/srv/app/${name}.mjs`, program(name, on, { initialize: more }));
    await systemd.manage("reload", name);
    const pid = await main(name);
    expect(await Promise.all([get(on), get(other), fetch("http://a/", "--unix-socket", path)])).toEqual([
      pid,
      pid,
      pid,
    ]);
    await systemd.manage("stop", name);
    // It is systemd's, who starts the service for the next client.
    const again = await fetch("http://a/", "--unix-socket", path);
    expect(again).toBe(await main(name));
    expect(again).not.toBe(pid);
    await systemd.manage("stop", `${name}.socket`);
  });

  test("a listener in the descriptor store serves the queued clients after a SIGKILL of all processes", async () => {
    const name = "stored";
    const path = "/run/stored.sock";
    const plan = {
      initialize: `await upg.listen(createServer((_, response) => response.end(String(process.pid))), { path: "${path}" });`,
    };
    const on = await install(name, { FileDescriptorStoreMax: "8", Restart: "always", RestartSec: "1" }, plan);
    await systemd.manage("start", name);
    for (let n = 0; n < 2; n++) {
      await systemd.manage("reload", name);
      expect(await systemd.show(name)).toMatchObject({ NFileDescriptorStore: "2" });
    }
    const inode = (await systemd.run("stat", "--format=%i", path)).stdout;

    await systemd.manage("kill", "--signal=KILL", name);
    await systemd.until(name, { SubState: "auto-restart" });
    const waiting = Promise.all([get(on), get(on), fetch("http://a/", "--unix-socket", path)]);
    const { MainPID: pid } = await systemd.until(name, { NRestarts: "1", SubState: "running" });
    expect(await waiting).toEqual([pid, pid, pid]);
    expect((await systemd.run("stat", "--format=%i", path)).stdout).toBe(inode);
    expect(await systemd.show(name)).toMatchObject({ NFileDescriptorStore: "2" });

    // New code that does not listen on the path any more takes it out, and its file.
    systemd.write(`/srv/app/${name}.mjs`, program(name, on));
    await systemd.manage("reload", name);
    await systemd.until(name, { NFileDescriptorStore: "1" });
    expect((await systemd.run("test", "-e", path)).code).toBe(1);

    const load = await Load.on(systemd, on);
    await systemd.manage("restart", name);
    await load.answered(50);
    expect((await load.stop()).failures).toEqual({});
    await isClean(name);
    expect(await systemd.show(name)).toMatchObject({ NFileDescriptorStore: "0" });
    expect(await get(on)).toBe("");
  });

  test("a listener that new code binds elsewhere replaces the one in the descriptor store", async () => {
    const name = "moved";
    const directives = { FileDescriptorStoreMax: "8", Restart: "always", RestartSec: "1" };
    const old = await install(name, directives, named(port + 1));
    await systemd.manage("start", name);
    const on = ++port;
    systemd.write(`/srv/app/${name}.mjs`, program(name, on, named(on)));
    await systemd.manage("reload", name);
    const knock = ["curl", "--silent", "--max-time", "1", `http://127.0.0.1:${old}/`] as const;
    while ((await systemd.run(...knock)).code !== REFUSED);
    expect(await systemd.show(name)).toMatchObject({ NFileDescriptorStore: "1" });

    await systemd.manage("kill", "--signal=KILL", name);
    await systemd.until(name, { SubState: "auto-restart" });
    const waiting = get(on);
    const { MainPID } = await systemd.until(name, { NRestarts: "1", SubState: "running" });
    expect(await waiting).toBe(MainPID);
    await isClean(name);
  });
});

const named = (on: number): Plan => ({ listen: `{ port: ${on}, host: "127.0.0.1", name: "web" }` });

/** Of curl. */
const REFUSED = 7;
