import { describe, expect, test } from "vitest";
import { handover, jsonLines } from "../support/program.js";
import { Supervised } from "../support/supervised.js";

interface Found {
  check: string;
  severity: string;
  what: string;
}

async function examine(pid: number): Promise<{ subject: string; found: Found[]; code: number | null }> {
  const run = await handover("doctor", pid, "--json");
  const [{ subject, findings }] = jsonLines(run) as [{ subject: string; findings: Found[] }];
  return { subject, found: findings, code: run.code };
}

describe("handover doctor", () => {
  test("handover doctor finds no error in a supervisor, and examines it by the PID of a worker, too", async () => {
    const supervised = await Supervised.start("http.js", { workers: 2 });
    const [, second = 0] = await supervised.pids();
    for (const pid of [supervised.pid, second]) {
      const { subject, found, code } = await examine(pid);
      expect(subject).toBe(`supervisor, process ${supervised.pid}, generation 0`);
      expect([code, found.filter(({ severity }) => severity === "error")]).toEqual([0, []]);
      const checks = new Set(found.map(({ check }) => check));
      expect([...checks]).toEqual(
        expect.arrayContaining(["workers", "processors", "queues", "node", "memory"]),
      );
      expect(found).toContainEqual({ check: "workers", severity: "ok", what: "2 run" });
    }
  });

  test("handover doctor finds a listener that a worker has opened without handover", async () => {
    const supervised = await Supervised.start("unmanaged-listener.js", {
      workers: 1,
      settings: { unmanaged: "allow" },
    });
    const [pid = 0] = await supervised.pids();
    const { found } = await examine(supervised.pid);
    const [unmanaged] = found.filter(({ check }) => check === "listeners");
    expect(unmanaged!.what).toMatch(
      new RegExp(`^tcp:.* was opened without handover by worker 0 \\(pid ${pid}\\)$`),
    );
  });
});
