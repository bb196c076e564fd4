import { readdirSync } from "node:fs";
import { expect } from "vitest";
import { readStat } from "../../dist/platform/proc.js";
import { Actor } from "./actor.js";
import type { Line } from "./service.js";

/** A server whose fixture stages at a command, and does what a staged process has to bear. */
export const startStaging = async (settings: object = {}, env: NodeJS.ProcessEnv = {}): Promise<Actor> =>
  Actor.start("obeys-stages.js", settings, env);

/** Waits for an event of a process that is about its successor: the line has the PID of that one. */
export const says = async ({ service, generation }: Actor, event: string): Promise<Line> =>
  service.until(event, { generation });

/** The lines of these events so far. */
export const said = ({ service, generation }: Actor, event: string): Line[] =>
  service.lines.filter((line) => line.event === event && line.generation === generation);

/** Waits until a process is stopped by SIGSTOP. */
export async function untilStopped(pid: number): Promise<void> {
  await expect.poll(() => readStat(pid)[0]).toBe("T");
}

/** Waits until every thread of a process has ended that its parent, being stopped, does not reap: its descriptors are closed. */
export async function untilDead(pid: number): Promise<void> {
  await expect.poll(() => `${readStat(pid)[0]} ${readdirSync(`/proc/${pid}/task`).length}`).toBe("Z 1");
}

/** Sees that no process but this one is left, that it serves, and that the next upgrade starts a new process. */
export async function servesAlone(actor: Actor): Promise<Actor> {
  const { service, pid } = actor;
  await expect.poll(() => service.alive()).toEqual([pid]);
  await expect.poll(() => service.children()).toEqual([]);
  expect(await service.ask()).toBe(String(pid));
  return upgradesAfresh(actor);
}

/** The next upgrade uses no staged process, and is committed. */
export async function upgradesAfresh(actor: Actor): Promise<Actor> {
  const successor = await actor.upgrade();
  expect(await says(actor, "upgraded")).toMatchObject({ staged: false });
  expect(await actor.service.ask()).toBe(String(successor.pid));
  return successor;
}
