import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { readOptions } from "../../dist/options.js";
import { Page } from "../support/page.js";
import { isInstalled, Sandbox } from "../support/sandbox.js";

const page = Page.open("containers");
const entrypoint = page.block("sh", "#!/bin/sh");
// Each upgrade waits for the end of probation.
const server = page.block("js").replace("{ pidFile", "{ probation: 300, pidFile");
const dockerfile = page.block("dockerfile");
const [refused] = page.blocks("text");
const run = page.block("sh", "docker run");
const upgrade = page.block("sh", "--dry-run");
const hangUp = page.block("sh", "docker kill");
const doctor = page.block("sh", "handover doctor");
const stop = page.block("sh", "docker stop");
const kubernetes = page.block("yaml");
const kubectl = page.block("sh", "kubectl");

const image = ["ENTRYPOINT", "CMD"].flatMap(
  (name) => JSON.parse(new RegExp(`^${name} (.*)$`, "m").exec(dockerfile)![1]!) as string[],
);
const shells = ["dash", "bash", "busybox"].filter(isInstalled);

describe.skipIf(Sandbox.missing)(`a container${Sandbox.why}`, () => {
  test.each(shells)(
    "is upgraded and stopped by the commands of docs/containers.md, under %s",
    async (shell) => {
      const sandbox = await startContainer(image, shell);
      const clients = sandbox.clients();
      await clients.answered(/generation 0/);
      const first = (await sandbox.run("docker exec app cat /run/app/app.pid")).stdout.trim();
      expect(await sandbox.run(upgrade)).toMatchObject({
        code: 0,
        stdout: expect.stringMatching(/^dry run for[^]*^done: pid \d+ serves as generation 1$/m) as string,
      });
      await clients.answered(/generation 1/);
      // It sees one that has ended until it is reaped.
      await sandbox.run(`docker exec app tail --sleep-interval=0.1 --pid=${first} -f /dev/null`);
      expect(await sandbox.run(doctor)).toMatchObject({ code: 0, stderr: "" });
      expect(await sandbox.run(kubectl)).toMatchObject({ code: 0, stderr: "" });
      await clients.answered(/generation 2/);
      for (const [, command] of kubernetes.matchAll(/command: (\[.*\])/g)) {
        const words = (JSON.parse(command!) as string[]).join(" ").replace("sleep 5", "sleep 0");
        expect(await sandbox.run(`docker exec app ${words}`)).toMatchObject({ code: 0, stderr: "" });
      }
      expect((await sandbox.run(hangUp)).code).toBe(0);
      await clients.answered(/generation 3/);
      const { failures } = await clients.leave();
      expect(failures).toEqual([]);
      expect((await sandbox.run(stop)).code).toBe(0);
      expect(await sandbox.run("docker wait app; docker logs app")).toMatchObject({ code: 0, stdout: "0\n" });
    },
  );

  test("ends with 1 if the last process has crashed", async () => {
    const sandbox = await startContainer(image);
    const clients = sandbox.clients();
    await clients.answered(/generation 0/);
    await sandbox.run(upgrade);
    await clients.answered(/generation 1/);
    await clients.leave();
    await sandbox.run('docker exec app sh -c "kill -KILL $(docker exec app cat /run/app/app.pid)"');
    expect((await sandbox.run("docker wait app")).stdout).toBe("1\n");
  });

  test("ends with the code of a program that does not get ready", async () => {
    const sandbox = await startContainer(image, "dash", "process.exit(7);");
    expect((await sandbox.run("docker wait app")).stdout).toBe("7\n");
  });

  test("whose PID 1 is the server is not upgraded", async () => {
    const sandbox = await startContainer(["node", "server.js"]);
    const clients = sandbox.clients();
    await clients.answered(/generation 0/);
    const [code, message] = refused!.trim().split(/ (.*)/);
    const { stdout } = await sandbox.run(
      "docker exec app handover upgrade --pid-file /run/app/app.pid --json || true",
    );
    expect(JSON.parse(stdout)).toEqual({ answer: "failed", code, message });
    expect((await clients.leave()).failures).toEqual([]);
    await sandbox.run(stop);
    expect((await sandbox.run("docker wait app")).stdout).toBe("0\n");
  });

  test("whose PID 1 ends with its first child ends with the first upgrade", async () => {
    const sandbox = await startContainer(["sh", "-c", "node server.js & wait $!"]);
    const clients = sandbox.clients();
    await clients.answered(/generation 0/);
    await sandbox.run("docker exec app sh -c 'kill -HUP $(cat /run/app/app.pid)'");
    expect((await sandbox.run("docker wait app")).stdout).toBe("0\n");
    expect((await clients.leave()).failures).not.toEqual([]);
  });
});

test("the timeouts of the orchestrators in docs/containers.md are longer than a drain and an exit", () => {
  const [, grace] = /terminationGracePeriodSeconds: (\d+)/.exec(kubernetes)!;
  const [, timeout] = /--stop-timeout (\d+)/.exec(run)!;
  const [, preStop] = /\["sleep", "(\d+)"\]/.exec(kubernetes)!;
  const { drainTimeout, exitTimeout } = readOptions({}, "/");
  const seconds = (drainTimeout + exitTimeout) / 1_000;
  expect(Number(timeout)).toBeGreaterThan(seconds);
  expect(Number(grace)).toBeGreaterThanOrEqual(Number(preStop) + seconds);
});

/** With the page's command, from an image that starts these words. */
async function startContainer(words: string[], shell = "dash", program = server): Promise<Sandbox> {
  const docker = readFileSync("test/support/docker", "utf8");
  const sandbox = await Sandbox.start({ docker, kubectl: KUBECTL });
  const of = shell === "busybox" ? "busybox sh" : shell;
  await sandbox.write(
    "/srv/entrypoint.sh",
    entrypoint.replace("#!/bin/sh", `#!/usr/bin/env -S ${of}`),
    0o755,
  );
  await sandbox.write("/srv/app/server.js", program);
  await sandbox.write("/srv/app/package.json", '{ "type": "module" }');
  expect(await sandbox.run(run, { env: { IMAGE_WORDS: words.join("\n") } })).toMatchObject({
    code: 0,
    stderr: "",
  });
  return sandbox;
}

const KUBECTL =
  '#!/bin/sh\n[ "$1 $2 $3" = "exec deployment/app --" ] && shift 3 && exec docker exec app "$@"\n';
