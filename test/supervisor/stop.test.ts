import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../support/service.js";
import { Supervised } from "../support/supervised.js";

test.each([
  { at: "start", index: 1, generation: 1 },
  { at: "initialized", index: 1, generation: 1 },
  { at: "release", index: 0, generation: 0 },
  { at: "acquire", index: 0, generation: 1 },
  { at: "accepting", index: 1, generation: 1 },
])("a service that is stopped while an upgrade pauses at $at ends with all its workers", async (fault) => {
  const armed = join(temporaryDirectory(), "armed");
  writeFileSync(armed, "");
  const faults = [0, 1].map((index) => ({ ...fault, index, how: "pause" }));
  const service = await Supervised.start("supervisor/faulty-worker.js", {
    probation: 60_000,
    stopTimeout: 5_000,
    settings: { armed, faults },
  });
  const { answer } = await service.beginUpgrade();
  const ended = answer.then(
    () => "upgraded",
    ({ code }: { code: string }) => code,
  );
  await service.until("fault", { at: fault.at });
  await service.stop();
  expect(["upgraded", "ERR_STOPPED", "ERR_CONTROL"]).toContain(await ended);
});
