import { join } from "node:path";
import { expect, test } from "vitest";
import type { Actor } from "../support/actor.js";
import { askAtOnce } from "../support/at-once.js";
import { temporaryDirectory } from "../support/service.js";
import { startStaging } from "../support/staged.js";

interface Controlled {
  server: Actor;
  atOnce: (...commands: Parameters<typeof askAtOnce>[2][]) => Promise<object[]>;
}

async function start(): Promise<Controlled> {
  const controlSocket = join(temporaryDirectory(), "control");
  const server = await startStaging({ controlSocket });
  return { server, atOnce: async (...commands) => askAtOnce(server.pid, controlSocket, ...commands) };
}

const refused = { code: "ERR_UPGRADE_IN_PROGRESS" };

test("of a stage and an upgrade at once the stage wins if it came first, and the next upgrade commits its process", async () => {
  const { server, atOnce } = await start();
  const [staged, upgrade] = await atOnce("stage", "upgrade");
  expect(staged).toMatchObject({ answer: "staged", generation: 1 });
  expect(upgrade).toEqual(refused);
  expect(server.service.alive()).toHaveLength(2);
  const [upgraded] = await atOnce("upgrade");
  expect(upgraded).toMatchObject({ answer: "upgraded", staged: true, pid: (staged as { pid: number }).pid });
});

test("of a stage and a SIGHUP at once the stage wins, and the next SIGHUP commits its process", async () => {
  const { server, atOnce } = await start();
  const [staged] = await atOnce("stage", "SIGHUP");
  expect(staged).toMatchObject({ answer: "staged", generation: 1 });
  expect(await server.says("failed")).toMatchObject(refused);
  expect(await server.upgrade()).toMatchObject({ pid: (staged as { pid: number }).pid });
});

test("of an upgrade and a stage at once the upgrade wins if it came first", async () => {
  const { server, atOnce } = await start();
  const [upgraded, stage] = await atOnce("upgrade", "stage");
  expect(upgraded).toMatchObject({ answer: "upgraded", staged: false });
  expect(stage).toEqual(refused);
  const { pid } = await server.successor();
  await expect.poll(() => server.service.alive()).toEqual([pid]);
});

test("of two stages at once one starts a process, and a third one answers that process", async () => {
  const { server, atOnce } = await start();
  const [staged, second] = await atOnce("stage", "stage");
  expect(staged).toMatchObject({ answer: "staged", generation: 1 });
  expect(second).toEqual(refused);
  expect(await atOnce("stage")).toEqual([staged]);
  expect(server.service.alive()).toHaveLength(2);
});

test("of an upgrade and an unstage at once the upgrade wins if it came first", async () => {
  const { server, atOnce } = await start();
  const { pid } = await server.stage();
  const [upgraded, unstage] = await atOnce("upgrade", "unstage");
  expect(upgraded).toMatchObject({ answer: "upgraded", staged: true, pid });
  expect(unstage).toEqual(refused);
});

test("of an unstage and an upgrade at once the unstage wins if it came first, and the upgrade starts another process", async () => {
  const { server, atOnce } = await start();
  const staged = await server.stage();
  const [unstaged, upgraded] = await atOnce("unstage", "upgrade");
  expect(unstaged).toMatchObject({ answer: "unstaged", pid: staged.pid });
  expect(upgraded).toMatchObject({ answer: "upgraded", staged: false });
  expect(staged.said("accepting")).toEqual([]);
});

test("a stage that is under way when the server is told to stop is refused, and leaves no process", async () => {
  const { server, atOnce } = await start();
  const [stage, stopped] = await atOnce("stage", "stop");
  expect(stage).toEqual({ code: "ERR_STOPPED" });
  expect(stopped).toMatchObject({ answer: "stopped", outcome: "stopped" });
  expect(await server.service.exited).toEqual([0, null]);
  await server.service.ended();
  expect(server.service.alive()).toEqual([]);
});
