import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { readOptions } from "../../dist/options.js";
import { Page } from "../support/page.js";
import { Sandbox } from "../support/sandbox.js";

const page = Page.open("containers");
// Each upgrade waits for the end of probation.
const server = page.block("js").replace("{ drain", "{ probation: 300, drain");
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
/** Without handover run. */
const alone = server.replace("{ prob", '{ pidFile: "/run/app/app.pid", prob');

describe.skipIf(Sandbox.missing)(`a container${Sandbox.why}`, () => {
  test("is upgraded and stopped by the commands of docs/containers.md", async () => {
    const sandbox = await startContainer(withFlags("--probation", "300ms"));
    const clients = sandbox.clients();
    await clients.answered(/generation 0/);
    // It is there when all workers accept.
    await expect.poll(() => pidFile(sandbox), { timeout: 60_000 }).toBe("1\n");
    expect(await sandbox.run(upgrade)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^dry run for[^]*^done: .* serves? as generation 1$/m) as string,
    });
    await clients.answered(/generation 1/);
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
  });

  test("serves on when a worker is killed", async () => {
    const sandbox = await startContainer(withFlags("--workers", "2", "--probation", "300ms"));
    const clients = sandbox.clients();
    await clients.answered(/generation 0/);
    // It is there when all workers accept.
    await expect.poll(() => pidFile(sandbox), { timeout: 60_000 }).toBe("1\n");
    expect((await sandbox.run(KILL_WORKER)).code).toBe(0);
    expect(await sandbox.run(upgrade)).toMatchObject({ code: 0 });
    await clients.answered(/generation 1/);
    await clients.leave();
    expect((await sandbox.run(stop)).code).toBe(0);
  });

  test("ends with 1 if no worker gets ready", async () => {
    const sandbox = await startContainer(withFlags("--restarts", "1"), "process.exit(7);");
    expect((await sandbox.run("docker wait app")).stdout).toBe("1\n");
  });

  test("whose PID 1 is the server is not upgraded", async () => {
    const sandbox = await startContainer(["node", "server.js"], alone);
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
    const sandbox = await startContainer(["sh", "-c", "node server.js & wait $!"], alone);
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

/** The image, with these flags of handover run; a default probation or number of restarts would take long. */
function withFlags(...flags: string[]): string[] {
  return image.flatMap((word) => (word === "run" ? [word, ...flags] : [word]));
}

/** With the page's command, from an image that starts these words. */
async function startContainer(words: string[], program = server): Promise<Sandbox> {
  const docker = readFileSync("test/support/docker", "utf8");
  const sandbox = await Sandbox.start({ docker, kubectl: KUBECTL });
  await sandbox.write("/srv/app/server.js", program);
  await sandbox.write("/srv/app/package.json", '{ "type": "module" }');
  expect(await sandbox.run(run, { env: { IMAGE_WORDS: words.join("\n") } })).toMatchObject({
    code: 0,
    stderr: "",
  });
  return sandbox;
}

async function pidFile(sandbox: Sandbox): Promise<string> {
  return (await sandbox.run("docker exec app cat /run/app/app.pid")).stdout;
}

/** Each of them is a child of PID 1. */
const KILL_WORKER = "docker exec app sh -c 'kill -KILL $(set -- $(cat /proc/1/task/1/children); echo $1)'";

const KUBECTL =
  '#!/bin/sh\n[ "$1 $2 $3" = "exec deployment/app --" ] && shift 3 && exec docker exec app "$@"\n';
