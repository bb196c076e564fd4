import { spawn } from "node:child_process";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Actor } from "../support/actor.js";
import { ENGINES, startEngine, type EngineName } from "../support/engines.js";
import { handover, jsonLines } from "../support/program.js";
import { overlaps, readLog, smallerFences } from "../support/run-log.js";
import { temporaryDirectory } from "../support/service.js";

/** By hand: `HANDOVER_UNITS=10000 npx vitest run test/hosts/busy.test.ts` */
const UNITS: Record<EngineName, number> = { postgres: 2_000, etcd: 600 };
const countOver = (engine: EngineName): number => Number(process.env["HANDOVER_UNITS"] ?? UNITS[engine]);

/** Uses a processor until the test ends. */
function burn(): void {
  const busy = spawn(process.execPath, ["-e", "for (;;);"], { stdio: "ignore" });
  onTestFinished(() => void busy.kill("SIGKILL"));
}

test.each(ENGINES.map((engine) => [countOver(engine), engine] as const))(
  "%i units over %s with a lease of 2 s move twice on a busy machine, and none runs twice or is lost",
  async (count, engine) => {
    const server = await startEngine(engine);
    onTestFinished(async () => server.remove());
    const log = join(temporaryDirectory(), "log");
    const database = server.database({ service: "busy", lease: 2_000 });
    const start = async (): Promise<Actor> =>
      Actor.start("on-several-hosts.js", { database, log, recovers: true });
    burn();
    burn();
    const ids = Array.from({ length: count }, (_, n) => `r${n}`);
    const a = await start();
    // If the lease ends meanwhile, those that ran are started again.
    await expect
      .poll(async () => new Set((await a.tell("startAll", ids)) as string[]))
      .toEqual(new Set(["here"]));
    const hosts = [a, await start(), await start()];
    const last = hosts[2]!;
    for (const [n, host] of hosts.slice(0, 2).entries()) {
      await expect
        .poll(async () => jsonLines(await handover("status", host.pid, "--json"))[0]!["hosts"])
        .toMatchObject({ lease: "held", peers: { length: 2 - n } });
      host.kill("SIGTERM");
      await host.leaves("stopped");
    }
    const leases = hosts.flatMap((host) => host.said("failed"));
    console.log(`${count} units: ${leases.length} leases have ended`);
    // On a machine that is too busy one may end: others recover its units then.
    const stopped = (): number => readLog(log).filter(({ event }) => event === "stop").length;
    await expect.poll(async () => Number(await last.tell("size")) + stopped()).toBe(count);
    expect(overlaps(readLog(log), new Map())).toEqual([]);
    expect(smallerFences(readLog(log))).toEqual([]);
  },
);
