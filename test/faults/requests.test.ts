import { setImmediate } from "node:timers/promises";
import { expect, test } from "vitest";
import { belongings, failUpgrade, finish, fixturePath, startWithClient, words } from "../support/faults.js";
import { Service } from "../support/service.js";

test("SIGHUP before ready is refused", async () => {
  const settings = { pause: ["initialized"] };
  const service = Service.start("pauses-at-phases.js", { settings, env: { IS_SUCCESSOR: "yes" } });
  await service.until("paused");
  process.kill(service.pid, "SIGHUP");
  expect(await service.until("failed")).toMatchObject({
    code: "ERR_NOT_READY",
    message: "cannot upgrade: this process is not ready yet",
  });
  process.kill(service.pid, "SIGUSR2");
  await service.until("accepting");
  expect(service.alive()).toEqual([service.pid]);
});

test("a second SIGHUP during an upgrade is refused, and does not harm the upgrade", async () => {
  const running = await startWithClient("pauses-at-phases.js", { pause: ["initialized"], probation: 1 });
  const { service } = running;
  process.kill(service.pid, "SIGHUP");
  const successor = (await service.until("paused")).pid;
  process.kill(service.pid, "SIGHUP");
  expect(await service.until("failed")).toMatchObject({ code: "ERR_UPGRADE_IN_PROGRESS" });
  process.kill(successor, "SIGUSR2");
  await service.until("accepting", { pid: successor });
  running.client.destroy();
  expect(await service.exited).toEqual([0, null]);
  await finish(running, successor);
});

test("a storm of SIGHUPs until the end of the drain is one upgrade", async () => {
  // Long enough for signals to arrive while it drains.
  const running = await startWithClient("never-exits.js", { probation: 500 });
  const { service, client } = running;
  client.destroy();
  const hasEnded = (): boolean =>
    service.lines.some(({ event, pid }) => event === "exited" && pid === service.pid);
  for (let sent = 0; sent < 50 || !hasEnded(); sent++) {
    process.kill(service.pid, "SIGHUP");
    await setImmediate();
  }
  const successor = await service.until("accepting", { generation: 1 });
  process.kill(service.pid, "SIGUSR2");
  expect(await service.exited).toEqual([0, null]);
  expect(service.lines.filter(({ event }) => event === "upgrading")).toHaveLength(1);
  const refusals = service.lines.filter(({ event }) => event === "failed").map(({ code }) => code);
  expect([...new Set(refusals)]).toEqual(["ERR_UPGRADE_IN_PROGRESS", "ERR_ALREADY_UPGRADED"]);
  expect(service.alive()).toEqual([successor.pid]);
});

test("SIGHUP to a replaced process, and to one on probation, is refused", async () => {
  const running = await startWithClient("pauses-at-phases.js", { probation: 20_000 });
  const { service } = running;
  const successor = await service.upgrade();
  for (const [pid, code] of [
    [service.pid, "ERR_ALREADY_UPGRADED"],
    [successor.pid, "ERR_ON_PROBATION"],
  ] as const) {
    const from = service.lines.length;
    process.kill(pid, "SIGHUP");
    expect((await service.until("failed", {}, from))["code"]).toBe(code);
  }
});

test("an upgrade is refused with maxDraining 1 while an older generation drains", async () => {
  const running = await startWithClient("pauses-at-phases.js", { probation: 1, maxDraining: 1 });
  const { service } = running;
  const held = service.ask("/hold");
  await service.until("holding");
  const second = await service.upgrade();
  await service.until("draining", { pid: service.pid });
  await service.confirmed(1);
  const refused = await service.upgrade("failed", { pid: second.pid });
  expect(refused["code"]).toBe("ERR_TOO_MANY_DRAINING");
  process.kill(service.pid, "SIGUSR2");
  expect(await held).toBe(String(service.pid));
  await service.until("alone", { pid: second.pid });
  const third = await service.upgrade();
  await service.until("alone", { pid: third.pid });
  await finish(running, third.pid);
});

test.each([true, false])(
  "an upgrade that is aborted changes nothing (before it has begun: %s)",
  async (early) => {
    const running = await startWithClient("aborts-upgrade.js", { early });
    const { service, client } = running;
    const before = belongings(service.pid);
    process.kill(service.pid, "SIGUSR2");
    const rejected = await service.until("rejected");
    expect(rejected).toMatchObject({ code: "ERR_ABORTED", cause: "no time" });
    expect(belongings(service.pid)).toEqual(before);
    expect(service.alive()).toEqual([service.pid]);
    expect(await service.ask("/", client)).toBe(String(service.pid));
    await finish(running);
  },
);

test("listeners that throw do not cut an upgrade short", async () => {
  const events = ["ready", "upgrading", "upgraded", "draining", "exit"];
  const running = await startWithClient("throwing-listeners.js", { events, careful: true, probation: 1 });
  const { service, client } = running;
  client.destroy();
  const successor = await service.upgrade();
  expect(await service.exited).toEqual([0, null]);
  const uncaught = service.lines.filter(({ event, generation }) => event === "uncaught" && generation === 0);
  expect(uncaught.map(({ message }) => message)).toEqual(events.map((event) => `thrown at ${event}`));
  await finish(running, successor.pid);
});

test("a process that dies of a throwing listener leaves the service to its successor", async () => {
  const running = await startWithClient("throwing-listeners.js", { events: ["upgraded"] });
  const { service } = running;
  const successor = await service.upgrade();
  expect(await service.exited).toEqual([1, null]);
  expect(service.noise).toMatch(/thrown at upgraded/);
  expect(await running.service.ask()).toBe(String(successor.pid));
});

const wrong: [spawn: string, code: string, message: RegExp][] = [
  ['{"args":"server.js"}', "ERR_OPTION", /"spawn\.args" must be an array of strings, not 'server\.js'$/],
  ['{"args":[1]}', "ERR_OPTION", /"spawn\.args" must be an array of strings/],
  ['{"command":""}', "ERR_OPTION", /"spawn\.command" must be a string that is not empty, not ''$/],
  ['{"cwd":"release"}', "ERR_OPTION", /"spawn\.cwd" must be an absolute path, not 'release'$/],
  ['{"cwd":"/no/such/place"}', "ERR_SPAWN", /in \/no\/such\/place: there is no such directory$/],
  ['{"command":"/no/such/node"}', "ERR_SPAWN", /spawn \/no\/such\/node ENOENT$/],
  ['{"env":"PATH=/bin"}', "ERR_OPTION", /"spawn\.env" must be an object of strings, not 'PATH=\/bin'$/],
  ['{"comand":"node"}', "ERR_OPTION", /"spawn" returned does not know the option "comand"/],
  ["null", "ERR_OPTION", /"spawn" returned takes an object of options, not null$/],
  ["throws", "ERR_SPAWN", /^cannot start a successor: the option "spawn" threw: no release today$/],
  ["promises", "ERR_OPTION", /"spawn" returned takes an object of options, not Promise/],
];

test.each(wrong)(
  "the option spawn that gives %s fails the upgrade, and says why",
  async (spawn, code, message) => {
    const running = await startWithClient("spawn-option.js", {}, { env: { SPAWN: spawn } });
    const failed = await failUpgrade(running);
    expect(failed["message"]).toMatch(message);
    expect(failed["code"]).toBe(code);
    await finish(running);
  },
);

/** A service whose first process leads the session of a terminal. */
async function startInTerminal(): ReturnType<typeof startWithClient> {
  const program = words("leads-terminal-session.js", { probation: 1 });
  return startWithClient("", {}, { command: ["python3", fixturePath("in-terminal.py"), ...program] });
}

test("SIGHUP caused by closing the terminal does not trigger an upgrade, the next one does", async () => {
  const running = await startInTerminal();
  const { service } = running;
  process.kill(service.pid, "SIGUSR2");
  await service.until("hung up");
  const successor = await service.upgrade();
  expect(successor.generation).toBe(1);
  expect(service.lines.filter(({ event }) => event === "upgrading")).toHaveLength(1);
  running.client.destroy();
  await service.until("alone", { pid: successor.pid });
  await finish(running, successor.pid);
});

test("SIGHUP caused by the exit of the session's leader does not trigger an upgrade", async () => {
  const running = await startInTerminal();
  const { service } = running;
  running.client.destroy();
  const successor = await service.upgrade();
  expect(await service.exited).toEqual([0, null]);
  await service.until("hung up", { pid: successor.pid });
  const third = await service.upgrade();
  expect(third.generation).toBe(2);
  expect(service.noise).toBe("");
  await service.until("alone", { pid: third.pid });
  await finish(running, third.pid);
});

test("PID 1 refuses an upgrade, serves, and ends at a second stop signal", async () => {
  const unshare = ["unshare", "--pid", "--fork", "--mount-proc"];
  const running = await startWithClient("", {}, { command: [...unshare, ...words("pauses-at-phases.js")] });
  const { service } = running;
  const [pid] = service.alive().filter((one) => one !== service.pid);
  process.kill(pid!, "SIGHUP");
  expect(await service.until("failed")).toMatchObject({ code: "ERR_PID_1" });
  expect(await service.ask()).toBe("1");
  const held = service.ask("/hold").catch((error: Error) => error.message);
  await service.until("holding");
  process.kill(pid!, "SIGTERM");
  await service.until("draining");
  await service.signalUntilExit(pid!, "SIGTERM");
  expect(await service.exited).toEqual([143, null]);
  expect(await held).toBe("socket hang up");
});

test("PID 1 exits with code 0 after it has stopped", async () => {
  const unshare = ["unshare", "--pid", "--fork", "--mount-proc"];
  const running = await startWithClient("", {}, { command: [...unshare, ...words("pauses-at-phases.js")] });
  const { service, client } = running;
  client.destroy();
  const [pid] = service.alive().filter((one) => one !== service.pid);
  process.kill(pid!, "SIGTERM");
  await service.until("exited", { outcome: "stopped" });
  expect(await service.exited).toEqual([0, null]);
});
