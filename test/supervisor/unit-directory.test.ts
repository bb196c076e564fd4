import { expect, test } from "vitest";
import { UnitDirectory, type UnitHolder } from "../../dist/supervisor/unit-directory.js";

test("the next program of a supervisor knows the owners of the units, and the former owners that can have them back", () => {
  const before = new UnitDirectory();
  const [first, second] = [holder(0, 10), holder(1, 11)];
  before.own(first, "room", ["a", "b"]);
  before.own(second, "room", ["a"], first.pid);
  before.own(holder(2, 12), "room", ["c"]);

  const after = new UnitDirectory();
  const known = [holder(0, 10), holder(1, 11)];
  after.restore(structuredClone(before.state), (pid) => known.find((one) => one.pid === pid));
  expect(["a", "b", "c"].map((id) => after.where("room", id)?.index)).toEqual([1, 0, undefined]);
  const [fence] = after.own(known[0]!, "room", ["d"]);
  expect(fence).toBeGreaterThan(before.state.fence);
  after.bury(known[1]!);
  expect(after.where("room", "a")?.index).toBe(0);
});

function holder(index: number, pid: number): UnitHolder {
  return { index, generation: 0, pid, isDead: false, readNow: () => {} };
}
