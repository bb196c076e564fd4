import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { forAnotherUser, NOBODY } from "../support/another-user.js";
import { belongings, failUpgrade, finish, limited, startWithClient, words } from "../support/faults.js";
import { asRoot, isSkipped } from "../support/root.js";
import { ask, descriptorCount } from "../support/service.js";

test("a predecessor with too few descriptors fails the upgrade, however few it has, and loses none", async () => {
  const running = await startWithClient("", {}, { command: limited(64, words("no-descriptors.js")) });
  const { service, client } = running;
  let failures = 0;
  for (;;) {
    const from = service.lines.length;
    process.kill(service.pid, "SIGUSR2");
    await service.until("full", {}, from);
    const before = descriptorCount(service.pid);
    process.kill(service.pid, "SIGHUP");
    const { event, code, message } = await Promise.race([
      service.until("failed", {}, from),
      service.until("accepting", { generation: 1 }),
    ]);
    if (event !== "failed") break;
    failures++;
    expect(code).toBe("ERR_SPAWN");
    expect(message).toMatch(/^cannot start a successor, .*: .*EMFILE/);
    expect(descriptorCount(service.pid)).toBe(before);
    expect(await running.service.ask("/", client)).toBe(String(service.pid));
  }
  expect(failures).toBeGreaterThan(1);
  const { pid } = await service.until("accepting", { generation: 1 });
  await finish(running, pid);
});

test("a successor that has no room for the inherited descriptors exits, and its predecessor keeps serving", async () => {
  const running = await startWithClient(
    "",
    {},
    { command: limited(64, words("no-descriptors.js", { full: "start" })) },
  );
  const failed = await failUpgrade(running);
  expect(failed["code"]).toBe("ERR_CHILD_EXITED");
  expect(running.service.noise).toContain(
    "cannot take over every descriptor: this process has no room for more",
  );
  await finish(running);
});

test("a successor that has no descriptor left for a listener fails before it is ready", async () => {
  const running = await startWithClient(
    "",
    {},
    { command: limited(64, words("no-descriptors.js", { full: "listen" })) },
  );
  const failed = await failUpgrade(running);
  expect(failed["code"]).toBe("ERR_CHILD_EXITED");
  expect(running.service.noise).toMatch(/ERR_LISTEN/);
  expect(running.service.noise).toMatch(/cannot listen on tcp:127\.0\.0\.1:0: .*EMFILE/);
  await finish(running);
});

test("a successor that uses up its descriptors before it is ready still accepts", async () => {
  const running = await startWithClient(
    "",
    {},
    { command: limited(64, words("no-descriptors.js", { full: "accept", probation: 1 })) },
  );
  const { service, client } = running;
  client.destroy();
  const successor = await service.upgrade();
  await service.until("exited", { generation: 0, outcome: "upgraded" });
  expect(service.alive()).toContain(successor.pid);
});

test("a predecessor that has used up its descriptors since the commit can still roll back", async () => {
  const running = await startWithClient(
    "",
    {},
    { command: limited(64, words("no-descriptors.js", { full: "upgraded" })) },
  );
  const { service, client } = running;
  process.kill(service.pid, "SIGHUP");
  await service.until("rollback");
  expect(await service.ask("/", client)).toBe(String(service.pid));
  await finish(running);
});

test("300 listeners and 300 files are inherited, in more than one message", async () => {
  const running = await startWithClient("many-descriptors.js", { listeners: 300, files: 300, probation: 1 });
  const { service, client } = running;
  client.destroy();
  const { ports } = await service.until("listening");
  let pid = service.pid;
  let before;
  for (let generation = 1; generation <= 3; generation++) {
    const from = service.lines.length;
    const accepting = await service.upgrade();
    ({ pid } = accepting);
    expect(accepting["inherited"]).toBe(300);
    expect((await service.until("listening", {}, from))["ports"]).toEqual(ports);
    await service.until("alone", { pid });
    before ??= belongings(pid);
    expect(belongings(pid)).toEqual(before);
  }
  const answers = await Promise.all((ports as number[]).map((port) => ask(port)));
  expect(new Set(answers)).toEqual(new Set([String(pid)]));
  await finish(running, pid);
});

test.skipIf(isSkipped)(
  `an upgrade waits while its user has too many descriptors in flight${asRoot}`,
  async () => {
    const user = ["setpriv", `--reuid=${NOBODY}`, "--clear-groups"];
    const { root, fixture } = forAnotherUser();
    const server = fixture("many-descriptors.js", { listeners: 30, files: 30, probation: 1 });
    const running = await startWithClient("", {}, { command: [...user, ...limited(256, server)], cwd: "/" });
    const { service, client } = running;
    client.destroy();
    const [word, ...rest] = [
      ...user,
      ...limited(2_000, ["python3", join(root, "test/fixtures/descriptors-in-flight.py"), "300"]),
    ];
    const other = spawn(word!, rest, { stdio: ["pipe", "pipe", "inherit"] });
    onTestFinished(() => void other.kill("SIGKILL"));
    await once(other.stdout, "data");
    const before = descriptorCount(service.pid);
    process.kill(service.pid, "SIGHUP");
    await service.until("upgrading");
    // It keeps duplicates of what the kernel did not take.
    expect(descriptorCount(service.pid)).toBeGreaterThanOrEqual(before + 60);
    other.stdin.end();
    const { pid } = await service.until("accepting", { generation: 1, inherited: 30 });
    await service.until("alone", { pid });
    await finish(running, pid);
  },
);
