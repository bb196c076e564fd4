import { expect, test } from "vitest";
import { descriptorCount } from "../support/service.js";
import { Supervised } from "../support/supervised.js";

test("a supervisor has as many descriptors after fifty upgrades and fifty crashes as before", async () => {
  const service = await Supervised.start("http.js", { probation: 1, backoff: 0, restarts: 1_000 });
  await service.replace();
  const before = descriptorCount(service.pid);
  for (let n = 0; n < 50; n++) {
    const [pid] = await service.pids();
    process.kill(pid!, "SIGKILL");
    await service.eventually(({ workers }) => workers![0]!.pid !== pid && workers![0]!.state === "ready");
    await service.replace();
  }
  // The connection of the last look may still be open.
  expect(descriptorCount(service.pid)).toBeLessThanOrEqual(before + 1);
  expect(service.service.alive()).toHaveLength(3);
  await service.stop();
}, 600_000);
