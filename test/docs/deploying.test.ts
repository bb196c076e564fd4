import { describe, expect, test } from "vitest";
import { Page } from "../support/page.js";
import { whyMissing, Sandbox, UNTIL_SERVED } from "../support/sandbox.js";

const page = Page.open("deploying");
const [layout] = page.blocks("text");
// Each upgrade waits for the end of probation.
const server = page.block("js").replace("{ pidFile", "{ probation: 300, pidFile");
const start = page.block("sh", "--env-file");
const deploy = page.block("sh", "# deploy.sh");
const json = page.block("sh", "--json | tail");
const ci = page.block("sh", "# ci.sh");
const rollBack = page.block("sh", "deploy.sh 2\n");
const command = page.block("sh", "jq .command");
const clean = page.block("sh", "# clean.sh");

const missing = Sandbox.missing ?? whyMissing("jq");
const why = missing === undefined ? "" : ` (skipped: ${missing})`;

describe.skipIf(missing)(`a service behind a symlink${why}`, () => {
  test("is deployed, rolled back and cleaned up by the commands of docs/deploying.md without a failed request", async () => {
    const sandbox = await startService();
    const clients = sandbox.clients();
    await clients.answered(/hello from release 1/);

    expect(await release(sandbox, "2", server)).toMatchObject({ code: 0 });
    await clients.answered(/hello from release 2/);
    await sandbox.write("/srv/app/app.env", "GREETING=welcome\n");
    expect(await release(sandbox, "3", server)).toMatchObject({ code: 0 });
    await clients.answered(/welcome from release 3/);

    const broken = await release(sandbox, "4", 'import "no-such-package";');
    expect(broken).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/^dry run for/m) as string,
    });
    expect(broken.stdout).not.toMatch(/^upgrading/m);
    expect(broken.stderr).toMatch(
      /^handover: the successor \(pid \d+\) exited with code 1; its last uncaught error: Error \[ERR_MODULE_NOT_FOUND\]: .*'no-such-package'.*; pid \d+ keeps serving$/m,
    );
    expect(broken.stderr).toMatch(/release 4 does not work; releases\/3 keeps serving\n$/);
    expect(await sandbox.run("readlink /srv/app/current")).toMatchObject({ stdout: "releases/3\n" });

    expect(await sandbox.run(rollBack)).toMatchObject({ code: 0 });
    await clients.answered(/welcome from release 2/);
    expect(await sandbox.run(json)).toMatchObject({ code: 0, stdout: "ok\n" });
    expect(JSON.parse((await sandbox.run(command)).stdout)).toMatchObject({
      words: start.split("\n")[1]!.replace(" &", "").split(" "),
      cwd: "/srv/app",
    });
    const { answers, failures } = await clients.leave();
    expect(failures).toEqual([]);
    expect(Object.keys(answers)).toEqual([
      "hello from release 1\n",
      "hello from release 2\n",
      "welcome from release 3\n",
      "welcome from release 2\n",
    ]);
  });

  test("goes back to the previous release if the new one dies on probation", async () => {
    const sandbox = await startService();
    const dying = await release(sandbox, "2", server.replace("await upg.exit;", "process.exit(3);"));
    expect(dying).toMatchObject({ code: 1 });
    expect(dying.stderr).toMatch(
      /rolled back: [^\n]*; pid \d+ keeps serving\nrelease 2 does not work; releases\/1/,
    );
    expect(await sandbox.run("readlink /srv/app/current; curl -s localhost:8080")).toMatchObject({
      stdout: "releases/1\nhello from release 1\n",
    });
  });

  test("keeps its releases while a predecessor drains", async () => {
    const sandbox = await startService();
    await sandbox.run("cd /srv/app/releases; mkdir 0; touch -d 2020-01-01 0; cp -r 1 1a; cp -r 1 1b");
    await sandbox.write("/srv/app/clean.sh", clean, 0o755);
    const first = (await sandbox.run("cat /run/app/app.pid")).stdout.trim();
    await sandbox.run(HALF);
    expect(await release(sandbox, "2", server)).toMatchObject({ code: 0 });
    const kept = await sandbox.run("/srv/app/clean.sh");
    expect(kept).toMatchObject({ code: 1, stderr: "1 predecessors still drain\n" });
    await sandbox.run(`echo >/run/half; tail --sleep-interval=0.1 --pid=${first} -f /dev/null`);
    expect(await sandbox.run("/srv/app/clean.sh")).toMatchObject({ code: 0, stderr: "" });
    const left = (await sandbox.run("ls /srv/app/releases")).stdout.trim().split("\n");
    expect(left).toContain("2");
    expect(left).not.toContain("0");
  });
});

/** A connection on which half a request has come: it stays in its process until a line comes to `/run/half`. */
const HALF = `mkfifo /run/begun /run/half
bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080; printf "GET / HT" >&3; echo >/run/begun; read <>/run/half' &
read line </run/begun`;

/** As the page says, with release 1. */
async function startService(): Promise<Sandbox> {
  const sandbox = await Sandbox.start({ ssh: '#!/bin/sh\nshift\nexec sh -c "$*"\n' });
  const [link] = /current -> (\S+)/.exec(layout!)!.slice(1);
  await sandbox.run(`mkdir -p /srv/app/${link} /srv/build && ln -s ${link} /srv/app/current`);
  await sandbox.write("/srv/app/deploy.sh", deploy, 0o755);
  await sandbox.write("/srv/ci.sh", ci, 0o755);
  await sandbox.write("/srv/app/app.env", "GREETING=hello\n");
  await sandbox.write("/srv/app/current/package.json", MANIFEST);
  await sandbox.write("/srv/app/current/server.js", server);
  expect(await sandbox.run(start)).toMatchObject({ code: 0 });
  expect(await sandbox.run(UNTIL_SERVED)).toMatchObject({ code: 0 });
  return sandbox;
}

/** Builds it, and has the page's script deploy it. */
async function release(sandbox: Sandbox, id: string, program: string): ReturnType<Sandbox["run"]> {
  await sandbox.write("/srv/build/server.js", program);
  await sandbox.write("/srv/build/package.json", MANIFEST);
  await sandbox.write("/srv/build/package-lock.json", LOCK);
  return sandbox.run(`./ci.sh ${id}`);
}

const MANIFEST = '{ "name": "app", "version": "1.0.0", "type": "module" }';
const LOCK = '{ "name": "app", "version": "1.0.0", "lockfileVersion": 3, "packages": {} }';
