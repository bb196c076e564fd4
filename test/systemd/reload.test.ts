import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIRECTIVES } from "../../dist/cli/unit-file/directives.js";
import type { Status } from "../../dist/control/protocol.js";
import { Load } from "../support/load.js";
import { obstacle, poll, requireInCi, Systemd, untested } from "../support/systemd.js";
import { program, service, type Plan } from "./units.js";

requireInCi();

describe.skipIf(obstacle !== undefined)(`a service under systemd${untested}`, () => {
  let systemd: Systemd;
  let port = 8000;
  beforeAll(async () => (systemd = await Systemd.boot()));
  afterAll(async () => systemd?.halt());

  async function start(name: string, directives: Record<string, string>, plan: Plan = {}): Promise<number> {
    await systemd.install(service(name, ++port, directives, plan));
    await systemd.manage("start", name);
    // Type=simple does not wait.
    await systemd.untilWritten(`/run/${name}/pid`);
    return port;
  }

  /** Only what ends by itself, at the stop's request, ends so. */
  async function stop(name: string): Promise<void> {
    await systemd.manage("stop", name);
    const { ActiveState, Result } = await systemd.show(name);
    expect({ ActiveState, Result }).toEqual({ ActiveState: "inactive", Result: "success" });
  }

  async function askStatus(name: string): Promise<Status> {
    const words = [process.execPath, "/srv/handover/bin/handover.js", "status", "--json"] as const;
    const { stdout } = await systemd.run(...words, "--pid-file", `/run/${name}/pid`);
    return JSON.parse(stdout) as Status;
  }

  test.each<[string, string, (name: string) => Record<string, string>]>([
    ["notify", "Type=notify", () => ({ Type: "notify" })],
    ["notify-mixed", "KillMode=mixed", () => ({ Type: "notify", KillMode: "mixed" })],
    ["notify-exec", "NotifyAccess=exec", () => ({ Type: "notify", NotifyAccess: "exec" })],
    ["notify-all", "NotifyAccess=all", () => ({ Type: "notify", NotifyAccess: "all" })],
    ["notify-pid", "Type=notify with PIDFile=", (name) => ({ Type: "notify", ...pidFile(name) })],
    ["simple", "Type=simple with PIDFile=", (name) => ({ Type: "simple", ...pidFile(name) })],
    ["forking", "Type=forking with PIDFile=", forking],
  ])(
    "systemctl reload in a loop loses no request, and stop waits (service %s: %s)",
    async (name, _, directives) => {
      const on = await start(name, directives(name));
      const load = await Load.on(systemd, on);
      const pids = new Set<string>();
      for (let n = 0; n < 2; n++) {
        pids.add((await systemd.show(name))["MainPID"]!);
        await systemd.manage("reload", name);
        await load.answered(50);
        // Where systemd goes by the PID file it looks into it when the old process ends.
        await systemd.until(name, { MainPID: systemd.read(`/run/${name}/pid`).trim() });
      }
      const status = directives(name)["Type"] === "notify" ? /^generation 2 accepts, / : /^$/;
      const { MainPID, ...now } = await systemd.until(name, { StatusText: status });
      pids.add(MainPID!);
      // Nothing is left of what has started it.
      await systemd.untilAlone(name, MainPID!);
      const { pids: answered, failures } = await load.stop();
      expect(failures).toEqual({});
      expect(new Set(Object.keys(answered))).toEqual(pids);
      expect(pids.size).toBe(3);
      expect(now).toMatchObject({ ActiveState: "active", SubState: "running", NRestarts: "0" });
      await stop(name);
    },
  );

  test("systemctl reload commits a staged successor, and systemctl stop ends one that is staged", async () => {
    await start("staged", { Type: "notify" });
    const words = [process.execPath, "/srv/handover/bin/handover.js", "stage", "--json"] as const;
    const stage = async (): Promise<Status> => {
      const { stdout } = await systemd.run(...words, "--pid-file", "/run/staged/pid");
      return JSON.parse(stdout.trim().split("\n").at(-1)!) as Status;
    };
    const staged = await stage();
    expect(await systemd.show("staged")).toMatchObject({ ActiveState: "active", SubState: "running" });
    await systemd.manage("reload", "staged");
    expect(await systemd.until("staged", { MainPID: String(staged.pid) })).toMatchObject({ NRestarts: "0" });
    await systemd.until("staged", { StatusText: /^generation 1 accepts, / });
    expect(await stage()).toMatchObject({ answer: "staged", generation: 2 });
    await stop("staged");
  });

  test.each<[string, Plan, RegExp]>([
    [
      "crashes",
      { initialize: "throw new Error('no database');" },
      /^upgrade failed: .* exited with code 1; its last uncaught error: Error: no database .*; generation 0/,
    ],
    [
      "is-killed",
      { initialize: "process.kill(process.pid, 'SIGKILL');" },
      /^upgrade failed: .* was killed by SIGKILL; /,
    ],
    [
      "hangs",
      { initialize: "await new Promise(() => {});" },
      /^upgrade failed: .* was not ready within 2000 ms, and was killed; /,
    ],
    [
      "dies-on-probation",
      { begin: "process.exit(4);" },
      /^rolled back: .* exited with code 4; its stderr is the file .*; generation 0/,
    ],
  ])("a reload fails if the new code %s, and the old process keeps serving", async (name, plan, status) => {
    const on = await start(name, { Type: "notify" }, { options: "upgradeTimeout: 2_000," });
    const { MainPID } = await systemd.show(name);
    const load = await Load.on(systemd, on);
    systemd.write(`/srv/app/${name}.mjs`, program(name, on, plan));
    expect((await systemd.systemctl("reload", name)).code).toBe(1);
    await load.answered(50);
    const now = await systemd.show(name);
    expect(now).toMatchObject({ ActiveState: "active", SubState: "running", MainPID, NRestarts: "0" });
    expect(now["StatusText"]).toMatch(status);
    expect((await load.stop()).failures).toEqual({});

    systemd.write(`/srv/app/${name}.mjs`, program(name, on));
    await systemd.manage("reload", name);
    await systemd.until(name, { StatusText: /^generation 1 accepts, / });
    await stop(name);
  });

  test("a stop succeeds after a failed reload, under Type=simple too", async () => {
    const on = await start("fails", { Type: "simple", ...pidFile("fails") });
    await systemd.manage("reload", "fails");
    systemd.write("/srv/app/fails.mjs", program("fails", on, { initialize: "throw new Error('no');" }));
    expect((await systemd.systemctl("reload", "fails")).code).toBe(1);
    expect(await systemd.show("fails")).toMatchObject({ ActiveState: "active" });
    await stop("fails");
  });

  test.each<[string, string, string, number]>([
    ["is stopped before it has sent the PID", "untold", "kill -STOP $$", 1],
    ["is killed before it has sent the PID", "orphan", "kill -KILL $$", 1],
    ["is stopped on probation", "stopped", "echo $! >&4; kill -STOP $$", 0],
  ])("a reload survives a launcher shell that %s", async (_, name, fate, code) => {
    // In place of /bin/sh, for this unit.
    const shell = `#!/bin/bash\nshift 3\n"$@" <&0 4>&- &\nexec 3>&-\n${fate}\n`;
    systemd.write(`/srv/${name}`, shell);
    await systemd.run("chmod", "+x", `/srv/${name}`);
    const on = await start(name, { Type: "notify", BindReadOnlyPaths: `/srv/${name}:/bin/sh` });
    const load = await Load.on(systemd, on);
    const { MainPID } = await systemd.show(name);
    expect((await systemd.systemctl("reload", name)).code).toBe(code);
    await load.answered(50);
    const now = systemd.read(`/run/${name}/pid`).trim();
    expect(now === MainPID).toBe(code === 1);
    await systemd.until(name, { MainPID: now, SubState: "running" });
    await systemd.untilAlone(name, now);
    const { failures, pids } = await load.stop();
    expect(failures).toEqual({});
    expect(new Set(Object.keys(pids))).toEqual(new Set([MainPID, now]));
    await stop(name);
  });

  test("a successor that dies while its predecessor drains is restarted at once", async () => {
    const on = await start("dies", { Type: "notify", KillMode: "mixed", Restart: "always", RestartSec: "0" });
    const { MainPID: old } = await systemd.show("dies");
    const held = await systemd.hold(on);
    await systemd.manage("reload", "dies");
    await systemd.manage("kill", "--signal=KILL", "--kill-who=main", "dies");
    await systemd.until("dies", { NRestarts: "1", SubState: "running" });
    const { MainPID } = await systemd.show("dies");
    expect(MainPID).not.toBe(old);
    await held.ended;
    await stop("dies");
  });

  test("the Restart= of `handover unit` starts a crashed service again, and leaves a stopped one stopped", async () => {
    const name = "restarts";
    await start(name, { Type: "notify", KillMode: "mixed", Restart: DIRECTIVES.Restart, RestartSec: "1" });
    await systemd.manage("reload", name);
    await systemd.manage("kill", "--signal=KILL", "--kill-who=main", name);
    await systemd.until(name, { NRestarts: "1", SubState: "running" });

    const words = [process.execPath, "/srv/handover/bin/handover.js", "stop"] as const;
    expect((await systemd.run(...words, "--pid-file", `/run/${name}/pid`)).code).toBe(0);
    const now = await systemd.until(name, { MainPID: "0", SubState: /^(dead|auto-restart)$/ });
    expect(now).toMatchObject({ ActiveState: "inactive", SubState: "dead", Result: "success" });
  });

  test("a main process that is killed on probation is followed by its successor, and the reload ends", async () => {
    const name = "followed";
    const on = await start(
      name,
      // It beats as for a watchdog, but there is none to bite while systemd is stopped.
      { Type: "notify", ...pidFile(name), Environment: "WATCHDOG_USEC=2000000" },
      { options: "probation: 60_000," },
    );
    const { MainPID: old } = await systemd.show(name);
    const load = await Load.on(systemd, on);
    const reloading = systemd.systemctl("reload", name);
    await systemd.until(name, { StatusText: / on probation; / });
    // All connections have moved.
    await load.answered(50);
    const pid = systemd.read(`/run/${name}/pid`).trim();
    // systemd reads what the successor says before it sees that the old process is dead.
    systemd.signal("SIGSTOP");
    await systemd.run("kill", "-KILL", old!);
    const look = async () => ((await askStatus(name)).predecessors.length === 0 ? true : undefined);
    await poll(look, () => "the successor has not seen the end of its predecessor");
    systemd.signal("SIGCONT");
    expect((await reloading).code).toBe(1);
    await systemd.until(name, { ActiveState: "active", SubState: "running", MainPID: pid });
    await load.answered(50);
    expect((await load.stop()).failures).toEqual({});
    await stop(name);
  });

  test("the watchdog ends a main process that is blocked, and systemd starts it again", async () => {
    const on = await start("blocked", {
      Type: "notify",
      WatchdogSec: "1",
      Restart: "always",
      RestartSec: "0",
    });
    await systemd.manage("reload", "blocked");
    const { MainPID } = await systemd.show("blocked");
    await systemd.run("curl", "--silent", "--max-time", "10", `http://127.0.0.1:${on}/block`);
    const now = await systemd.until("blocked", { NRestarts: "1", SubState: "running" });
    expect(now["MainPID"]).not.toBe(MainPID);
    await stop("blocked");
  });

  test("the watchdog is fed through an upgrade that takes longer than it waits", async () => {
    const plan = { initialize: "if (upg.hasParent) await new Promise((go) => setTimeout(go, 1_500));" };
    const name = "watched";
    await start(
      name,
      { Type: "notify", WatchdogSec: "500ms", Restart: "always" },
      { ...plan, options: "probation: 1_500," },
    );
    await systemd.manage("reload", name);
    const { MainPID } = await systemd.until(name, { StatusText: /^generation 1 accepts, / });
    const { WatchdogTimestampMonotonic } = await systemd.show(name);
    for (let fed = 0, last = WatchdogTimestampMonotonic; fed < 4; fed++) {
      const now = await systemd.until(name, { WatchdogTimestampMonotonic: new RegExp(`^(?!${last}$)`) });
      last = now["WatchdogTimestampMonotonic"]!;
      expect(now).toMatchObject({ MainPID, NRestarts: "0", SubState: "running" });
    }
    await stop(name);
  });

  test.each([
    ["an older generation that still drains", "older", 300],
    ["a successor on probation", "newer", 60_000],
  ])("a stop waits for the requests of %s", async (_, name, probation) => {
    const on = await start(name, { Type: "notify" }, { options: `probation: ${probation},` });
    const first = (await systemd.show(name))["MainPID"]!;
    const before = await systemd.hold(on);
    const reloading = systemd.systemctl("reload", name);
    if (name === "older") await reloading;
    else await systemd.until(name, { StatusText: / on probation; / });
    const after = await systemd.hold(on);
    const second = systemd.read(`/run/${name}/pid`).trim();

    await systemd.manage("stop", "--no-block", name);
    await systemd.until(name, { ActiveState: "deactivating" });
    // The main process has nothing to do any more.
    const [main, mains, other, others] =
      name === "older" ? [second, after, first, before] : [first, before, second, after];
    await systemd.run("kill", "-USR2", main);
    expect(await mains.ended).toBe(`held by ${main}`);
    await systemd.until(name, { StatusText: "stopping, when other generations have drained" });
    await systemd.run("kill", "-USR2", other);
    expect(await others.ended).toBe(`held by ${other}`);
    await systemd.until(name, { ActiveState: /^(inactive|failed)$/ });
    await reloading;
  });

  test("a stop may take as long as the drain, whatever TimeoutStopSec= is", async () => {
    const name = "drains";
    const on = await start(
      name,
      // Twice the watchdog's beat is what each message asks for.
      { Type: "notify", TimeoutStopSec: "500ms", WatchdogSec: "1" },
      { options: "drainTimeout: 3_000," },
    );
    const held = await systemd.hold(on);
    await systemd.manage("stop", name);
    await held.ended;
    expect(await systemd.show(name)).toMatchObject({ ActiveState: "inactive", Result: "success" });
  });
});

const pidFile = (name: string) => ({ PIDFile: `/run/${name}/pid` });
const forking = (name: string) => ({
  Type: "forking",
  ...pidFile(name),
  ExecStart: `/bin/sh -c "${process.execPath} /srv/app/${name}.mjs & while ! test -s /run/${name}/pid; do sleep .01; done"`,
});
