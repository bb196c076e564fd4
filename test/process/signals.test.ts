import { existsSync } from "node:fs";
import { connect } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Crowd } from "../support/crowd.js";
import { fixturePath, isServed, startWithClient, words } from "../support/faults.js";
import { handover } from "../support/program.js";
import { Service, temporaryDirectory } from "../support/service.js";

const brief = { probation: 50 };

describe.each([
  ["closes the server and exits", false],
  ["closes the server and exits", true],
  ["closes the server and raises the signal again", false],
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

test.each([
  ["closes the server and raises the signal again", "SIGTERM"],
  ["raises the signal again and again", "SIGTERM"],
  ["raises the signal again and again", "SIGINT"],
] as const)("a library that %s does not cut the drain after %s", async (how, signal) => {
  const service = Service.start("ends-at-signal.js", { settings: { signal, how } });
  await service.until("accepting");
  const held = service.ask("/hold");
  await service.until("holding");
  process.kill(service.pid, signal);
  if (how === "raises the signal again and again") await service.until("raised");
  process.kill(service.pid, "SIGUSR2");
  expect(await held).toBe(String(service.pid));
  expect(await service.exited).toEqual([0, null]);
  expect(service.lines.map(({ event }) => event)).toContain("released");
});

test("two stop signals at the same time are one stop", async () => {
  const { service, client } = await startWithClient("pauses-at-phases.js");
  client.destroy();
  const held = service.ask("/hold");
  await service.until("holding");
  // Both are waiting when the process goes on.
  for (const signal of ["SIGSTOP", "SIGTERM", "SIGINT", "SIGCONT"] as const)
    process.kill(service.pid, signal);
  await service.until("draining");
  process.kill(service.pid, "SIGUSR2");
  expect(await held).toBe(String(service.pid));
  expect(await service.exited).toEqual([0, null]);
});

test("a second SIGINT from the terminal ends a process in its foreground at once", async () => {
  const program = words("pauses-at-phases.js");
  const command = ["python3", fixturePath("in-terminal.py"), ...program];
  const { service } = await startWithClient("", {}, { command });
  const held = service.ask("/hold").catch((error: Error) => error.message);
  await service.until("holding");
  process.kill(service.pid, "SIGINT");
  await service.until("draining");
  process.kill(service.pid, "SIGINT");
  expect(await service.exited).toEqual([null, "SIGINT"]);
  expect(await held).toBe("socket hang up");
});
