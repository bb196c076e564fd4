import { existsSync } from "node:fs";
import { connect } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Crowd, isServed } from "../support/faults.js";
import { handover } from "../support/program.js";
import { Service, temporaryDirectory } from "../support/service.js";

const brief = { probation: 50 };

describe.each([
  ["closes the server and exits", false],
  ["closes the server and exits", true],
])("another listener for SIGHUP that %s (added before the Upgrader: %s)", (how, before) => {
  test(`SIGHUP upgrades without a failed request although a listener ${how} (added before the Upgrader: ${before})`, async () => {
    const service = Service.start("ends-at-signal.js", {
      settings: { ...brief, signal: "SIGHUP", how, before },
    });
    await service.until("accepting");
    const crowd = new Crowd(service);
    await crowd.answered(50);
    process.kill(service.pid, "SIGHUP");
    const successor = await service.until("accepting", { generation: 1 });
    await crowd.answered(50);
    await crowd.leave();
    expect(crowd.failures).toEqual([]);
    expect(crowd.answers.get(successor.pid)).toBeGreaterThan(0);
    expect(service.noise).not.toContain("upgrade failed");
  });
});

test("SIGHUP refuses no client although a listener ends the process in the same turn", async () => {
  const settings = { ...brief, signal: "SIGHUP", how: "exits at once" };
  const service = Service.start("ends-at-signal.js", { settings });
  await service.until("accepting");
  process.kill(service.pid, "SIGHUP");
  expect(await service.exited).toEqual([0, null]);
  // The successor holds the listener, and may not have accepted yet.
  const answer = service.ask();
  const successor = await service.until("accepting", { generation: 1 });
  expect(await answer).toBe(String(successor.pid));
});

test("the file of a Unix socket stays when a listener for SIGHUP closes the server", async () => {
  const path = join(temporaryDirectory(), "app.sock");
  const settings = { ...brief, signal: "SIGHUP", how: "closes the server", listen: { path } };
  const service = Service.start("ends-at-signal.js", { settings });
  await service.until("accepting");
  process.kill(service.pid, "SIGHUP");
  await service.until("accepting", { generation: 1 });
  await service.until("exited", { generation: 0 });
  const client = connect(path);
  await once(client, "connect");
  expect(client.readyState).toBe("open");
  client.destroy();
});

test("a server that a listener for SIGHUP closes is closed when the upgrade has failed", async () => {
  const path = join(temporaryDirectory(), "app.sock");
  for (const listen of [{ path }, { port: 0, host: "127.0.0.1" }]) {
    const settings = { ...brief, signal: "SIGHUP", how: "closes the server", fails: true, listen };
    const service = Service.start("ends-at-signal.js", { settings });
    const { address } = (await service.until("listening")) as { address?: unknown };
    await service.until("accepting");
    process.kill(service.pid, "SIGHUP");
    await service.untilNoise(/handover: upgrade failed: .*\n/);
    const port = (address as { port?: number }).port;
    expect(port === undefined ? existsSync(path) : await isServed(port)).toBe(false);
  }
});

test("ready() and doctor name another listener for SIGHUP", async () => {
  const pidFile = join(temporaryDirectory(), "pid");
  const settings = { ...brief, pidFile, signal: "SIGHUP", how: "closes the server" };
  const service = Service.start("ends-at-signal.js", { settings });
  await service.untilNoise(
    /HANDOVER_SIGNAL\] Warning: SIGHUP upgrades this process, and runs other listeners of the program, too: endGracefully\. /,
  );
  const { stdout } = await handover("doctor", "--pid-file", pidFile);
  expect(stdout).toMatch(
    /^warning +signals +SIGHUP runs other listeners of the program, too: endGracefully$/m,
  );
});

test("a listener for a signal that upgrades nothing is not warned of", async () => {
  const pidFile = join(temporaryDirectory(), "pid");
  const settings = { ...brief, pidFile, signal: "SIGTERM", how: "closes the server" };
  const service = Service.start("ends-at-signal.js", { settings });
  await service.until("accepting");
  const { stdout } = await handover("doctor", "--pid-file", pidFile);
  expect(stdout).toMatch(/^ok +signals +SIGHUP upgrades it, and runs no other listener$/m);
  await service.stop();
  expect(service.noise).toBe("");
});
