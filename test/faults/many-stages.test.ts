import { readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Actor } from "../support/actor.js";
import { childrenOf, descriptorCount, temporaryDirectory } from "../support/service.js";
import { startStaging } from "../support/staged.js";

/** `npm run test:stages` takes a hundred. */
const STAGES = Number(process.env["HANDOVER_STAGES"] ?? 12);

const limit = { timeout: 60_000 + STAGES * 5_000 };

test(
  "stages that are not committed leave no descriptor, process, timer, memory or file behind",
  limit,
  async () => {
    const directory = temporaryDirectory();
    const server = await startStaging({ pidFile: join(directory, "app.pid") });
    const stage = async (times: number): Promise<void> => {
      for (let n = 0; n < times; n++) {
        await server.stage();
        await server.tell("unstage");
        await expect.poll(() => server.service.alive()).toEqual([server.pid]);
      }
    };
    // What is loaded and compiled at the first ones stays.
    await stage(STAGES / 4);
    const before = await belongings(server, directory);
    await stage((3 * STAGES) / 4);
    const grown = async (): Promise<string[]> => {
      const now = await belongings(server, directory);
      return Object.keys(now).filter((what) => now[what]! > before[what]!);
    };
    await expect.poll(grown).toEqual([]);
    await server.service.stop();
    expect(readdirSync(directory)).toEqual([]);
    expect(server.service.noise).toBe("");
  },
);

test("stages that are committed leave no descriptor, process or file behind", limit, async () => {
  const directory = temporaryDirectory();
  let server = await startStaging({ pidFile: join(directory, "app.pid"), probation: 1 });
  const { service } = server;
  const descriptors = new Set<number>();
  for (let n = 0; n < STAGES / 4; n++) {
    const { pid } = await server.stage();
    const successor = await server.upgrade();
    expect(successor.pid).toBe(pid);
    await successor.says("alone");
    server = await successor.confirmed();
    expect(service.alive()).toEqual([pid]);
    descriptors.add(descriptorCount(pid));
    expect(readdirSync(directory).toSorted()).toEqual(["app.pid", "app.pid.sock"]);
  }
  expect([...descriptors]).toHaveLength(1);
  await service.stop();
  expect(readdirSync(directory)).toEqual([]);
  expect(service.noise).toBe("");
});

/** How much a server has of everything that a stage could leave behind; its memory in MiB. */
async function belongings(server: Actor, directory: string): Promise<Record<string, number>> {
  const { resources, memory } = (await server.tell("resources")) as { resources: number; memory: number };
  return {
    resources,
    MiB: Math.ceil(memory / 2 ** 20),
    alive: server.service.alive().length,
    children: childrenOf(server.pid).length,
    descriptors: descriptorCount(server.pid),
    files: readdirSync(directory).length,
  };
}
