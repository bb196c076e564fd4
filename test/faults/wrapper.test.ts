import { expect, test } from "vitest";
import { finish, startWithClient, type Running } from "../support/faults.js";
import { asRoot, isSkipped } from "../support/root.js";

/** A shell that stays, and waits for the program. */
const STAYS = '"$@"; true';

async function start(wrapper: string, settings: object = {}): Promise<Running> {
  return startWithClient("spawns-by-wrapper.js", { wrapper, ...settings });
}

test("an upgrade by a wrapper that stays names the PID of the program, and is confirmed", async () => {
  const running = await start(STAYS, { probation: 500 });
  const { service } = running;
  const { pid, parent } = await service.upgrade();
  expect(parent).not.toBe(service.pid);
  expect(await service.until("upgraded")).toMatchObject({ pid });
  expect(await service.until("recorded", { generation: 1 })).toMatchObject({ outcome: "confirmed" });
  await service.until("exited", { generation: 0, outcome: "upgraded" });
  await finish(running, pid);
});

test("a successor that is late is killed behind a wrapper that stays, and never serves", async () => {
  const running = await start(STAYS, { upgradeTimeout: 3_000, init: 600_000 });
  const { service } = running;
  expect(await service.upgrade("failed", { generation: 0 })).toMatchObject({ code: "ERR_UPGRADE_TIMEOUT" });
  expect(service.alive()).toEqual([service.pid]);
  await finish(running);
});

test("a stop during an upgrade by a wrapper leaves no process", async () => {
  const running = await start(STAYS, { init: 600_000 });
  const { service } = running;
  await service.upgrade("listening", { generation: 1 });
  running.client.destroy();
  await service.stop();
  expect(service.alive()).toEqual([]);
});

test("a wrapper that is killed on probation does not end the upgrade: one process accepts", async () => {
  const running = await start(STAYS, { probation: 2_000 });
  const { service } = running;
  const { pid, parent } = await service.upgrade();
  process.kill(parent as number, "SIGKILL");
  expect(await service.until("recorded", { generation: 1 })).toMatchObject({ outcome: "confirmed" });
  await service.until("exited", { generation: 0, outcome: "upgraded" });
  await expect.poll(() => service.alive()).toEqual([pid]);
  await finish(running, pid);
});

test("a wrapper that starts its child again does not get a second successor: the old process serves", async () => {
  const running = await start('while :; do "$@"; done', { dies: true });
  const { service } = running;
  expect(await service.upgrade("failed", { generation: 0 })).toMatchObject({ code: "ERR_CHILD_EXITED" });
  await service.untilNoise(/HANDOVER_WRAPPER/);
  await expect.poll(() => service.alive()).toEqual([service.pid]);
  await finish(running);
});

test("a successor that dies on probation is rolled back, although its wrapper holds the channel", async () => {
  const running = await start('"$@"; while :; do sleep 1; done', { probation: 20_000 });
  const { service } = running;
  const { pid } = await service.upgrade();
  process.kill(pid, "SIGKILL");
  await service.until("rollback", { generation: 0 });
  await service.untilNoise(/HANDOVER_WRAPPER/);
  expect(await service.ask()).toBe(String(service.pid));
  expect(await service.ask("/", running.client)).toBe(String(service.pid));
  // The wrapper's sleep ends a second later.
  await expect.poll(() => service.alive()).toEqual([service.pid]);
  await finish(running);
});

test.skipIf(isSkipped)(
  `a successor in a PID namespace of its own is killed when it is late, and never serves${asRoot}`,
  async () => {
    const wrapper = 'unshare --pid --fork "$@"; true';
    const running = await start(wrapper, { upgradeTimeout: 3_000, init: 600_000 });
    const { service } = running;
    expect(await service.upgrade("failed", { generation: 0 })).toMatchObject({ code: "ERR_UPGRADE_TIMEOUT" });
    await expect.poll(() => service.alive()).toEqual([service.pid]);
    await finish(running);
  },
);
