import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Run } from "../support/program.js";
import { obstacle, requireInCi, Systemd, untested } from "../support/systemd.js";

requireInCi();

describe.skipIf(obstacle !== undefined)(`handover unit --install${untested}`, () => {
  let systemd: Systemd;
  beforeAll(async () => {
    systemd = await Systemd.boot();
    await systemd.run("useradd", "someone");
    await systemd.run("install", "-d", "-o", "someone", "/tmp/home");
  });
  afterAll(async () => systemd?.halt());

  /** A project whose package.json names a program that is not there. */
  async function makeProject(name: string, port: number): Promise<string> {
    const directory = `/srv/${name}`;
    await systemd.run("mkdir", "-p", `${directory}/node_modules`);
    await systemd.run("ln", "-sfn", "/srv/handover", `${directory}/node_modules/handover`);
    systemd.write(
      `${directory}/package.json`,
      JSON.stringify({
        name,
        type: "module",
        main: "missing.js",
        scripts: { start: "node dist/missing.js" },
      }),
    );
    systemd.write(
      `${directory}/server.js`,
      `import { createServer } from "node:http";
import { Upgrader } from "handover";
const upg = new Upgrader({ pidFile: process.env.RUNTIME_DIRECTORY + "/${name}.pid", probation: 300 });
await upg.listen(createServer((_, response) => response.end(String(process.pid))), ${port}, "127.0.0.1");
await upg.ready();
await upg.exit;
process.exit();
`,
    );
    return directory;
  }

  async function unit(directory: string, words: string, by: string[] = []): Promise<Run> {
    const program = `cd ${directory}; ${process.execPath} /srv/handover/bin/handover.js unit ${words}`;
    const [word, ...rest] = [...by, "sh", "-c", program];
    return systemd.run(word, ...rest);
  }

  const served = async (port: number): Promise<string> =>
    (await systemd.run("curl", "--silent", `http://127.0.0.1:${port}/`)).stdout;

  test("writes, enables and starts the unit of a program that exists, which systemctl reload upgrades", async () => {
    const directory = await makeProject("shop", 8101);
    const { code, stdout, stderr } = await unit(directory, "--install");
    expect({ code, stdout, stderr }).toEqual({
      code: 0,
      stdout:
        "written: /etc/systemd/system/shop.service\ndone: shop runs\n" +
        'systemctl reload shop upgrades it, if it has new Upgrader({ pidFile: "/run/shop/shop.pid" })\n',
      stderr: "",
    });
    expect((await systemd.systemctl("is-enabled", "shop")).stdout).toBe("enabled\n");
    const before = await served(8101);
    expect(before).toBe((await systemd.show("shop"))["MainPID"]);
    await systemd.manage("reload", "shop");
    const after = await served(8101);
    expect([after, after === before]).toEqual([expect.stringMatching(/^\d+$/), false]);
  });

  test("runs workers with --workers, which systemctl reload upgrades under the same main process", async () => {
    const directory = await makeProject("mall", 8107);
    const { code, stdout, stderr } = await unit(directory, "--install --workers 2");
    expect({ code, stdout, stderr }).toEqual({
      code: 0,
      stdout:
        "written: /etc/systemd/system/mall.service\ndone: mall runs\n" +
        "systemctl reload mall upgrades it, if it has new Upgrader()\n",
      stderr: "",
    });
    const { MainPID } = await systemd.until("mall", { StatusText: /^generation 0: 2 of 2 workers accept/ });
    await systemd.manage("reload", "mall");
    const after = await systemd.until("mall", { StatusText: /^generation 1: 2 of 2 workers accept/ });
    expect(after["MainPID"]).toBe(MainPID);
    expect(await served(8107)).toMatch(/^\d+$/);
  });

  test("changes nothing if the unit is as it should be, and replaces an edited one with --force only", async () => {
    const directory = await makeProject("cafe", 8102);
    await unit(directory, "--install");
    const pid = await served(8102);
    expect(await unit(directory, "--install --json")).toMatchObject({ code: 0, stderr: "" });
    expect(await served(8102)).toBe(pid);
    const path = "/etc/systemd/system/cafe.service";
    systemd.write(path, `${systemd.read(path)}# mine\n`);
    expect(await unit(directory, "--install")).toEqual({
      code: 1,
      stdout: "",
      stderr: `handover: cannot write ${path}: it exists with other content; --force replaces it\n`,
    });
    expect(systemd.read(path)).toMatch(/# mine\n$/);
    const forced = await unit(directory, "--install --force");
    expect(forced).toMatchObject({ code: 0, stderr: "" });
    expect(forced.stdout).toMatch("a service that ran before takes its new unit by systemctl restart cafe\n");
    expect(systemd.read(path)).not.toMatch("mine");
  });

  test("lets systemd listen with --socket", async () => {
    const directory = await makeProject("bar", 8103);
    const { code, stdout, stderr } = await unit(directory, "--install --socket 127.0.0.1:8103 --json");
    expect([code, stderr]).toEqual([0, ""]);
    expect(JSON.parse(stdout)).toMatchObject({
      written: ["/etc/systemd/system/bar.service", "/etc/systemd/system/bar.socket"],
      enabled: ["bar.service", "bar.socket"],
    });
    expect((await systemd.systemctl("is-enabled", "bar.socket", "bar.service")).stdout).toBe(
      "enabled\nenabled\n",
    );
    expect(await served(8103)).toBe((await systemd.show("bar"))["MainPID"]);
  });

  test("fails, and says what systemd says, if the program does not start", async () => {
    const directory = await makeProject("broken", 8104);
    systemd.write(`${directory}/server.js`, "process.exit(1);");
    const { code, stderr } = await unit(directory, "--install");
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^handover: cannot start broken\.service: Job for broken\.service failed because the control process exited/,
    );
  });

  test("fails for an ordinary user, and names the way without root", async () => {
    const directory = await makeProject("kiosk", 8105);
    const as = [
      "setpriv",
      "--reuid",
      "someone",
      "--regid",
      "someone",
      "--clear-groups",
      "env",
      "HOME=/tmp/home",
    ];
    expect(await unit(directory, "--install", as)).toEqual({
      code: 1,
      stdout: "",
      stderr:
        "handover: cannot write /etc/systemd/system: EACCES: permission denied, access '/etc/systemd/system'; " +
        "run it as root, or with --user and no name for a unit of your own systemd\n",
    });
    const without = await unit(directory, "--user --install", as);
    expect(without.code).toBe(1);
    expect(without.stderr).toMatch(
      /^handover: cannot reach systemd, of which you have one of your own while /,
    );
    expect((await systemd.run("ls", "-A", "/tmp/home/.config/systemd/user")).stdout).toBe("");
  });

  test("installs a unit of the user's own systemd with --user", async () => {
    await systemd.install({ "/etc/systemd/system/own.service": OWN_SYSTEMD });
    await systemd.manage("start", "own");
    const directory = await makeProject("kiosk", 8106);
    const env = ["env", "HOME=/root", "XDG_RUNTIME_DIR=/run/user/0"];
    expect(await unit(directory, "--user --install", env)).toEqual({
      code: 0,
      stdout:
        "written: /root/.config/systemd/user/kiosk.service\n" +
        "done: kiosk runs\n" +
        'systemctl --user reload kiosk upgrades it, if it has new Upgrader({ pidFile: "/run/user/0/kiosk/kiosk.pid" })\n' +
        "it ends when you log out, unless loginctl enable-linger was run\n",
      stderr: "",
    });
    const before = await served(8106);
    expect(await systemd.run("env", ...env.slice(1), "systemctl", "--user", "reload", "kiosk")).toMatchObject(
      {
        code: 0,
        stderr: "",
      },
    );
    const after = await served(8106);
    expect([before, after, before === after]).toEqual([
      expect.stringMatching(/^\d+$/),
      expect.stringMatching(/^\d+$/),
      false,
    ]);
  });
});

/** root's own systemd, as a login starts it. */
const OWN_SYSTEMD = `[Service]
Type=notify
RuntimeDirectory=user/0
RuntimeDirectoryMode=0700
Environment=HOME=/root XDG_RUNTIME_DIR=/run/user/0
ExecStart=/lib/systemd/systemd --user
Delegate=yes
`;
