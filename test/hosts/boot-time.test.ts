import { expect, test } from "vitest";
import { bootTime } from "../../dist/hosts/boot-time.js";

test("the time since the boot goes on in a turn that takes long", () => {
  const before = bootTime();
  const end = performance.now() + 50;
  while (performance.now() < end);
  expect(bootTime()).toBeGreaterThan(before);
});
