import { expect, test } from "vitest";
import { membersOf } from "../support/declarations.js";
import { DocumentedProgram } from "../support/documented.js";
import { Page } from "../support/page.js";

const page = Page.open("state");
const program = page.block("js", "// state.js");

test("the slot, the unit and the role of docs/state.md move", async () => {
  const service = await DocumentedProgram.start(program);
  const ask = async (): Promise<{ visits: number; steps: number; isLeader: boolean }> =>
    (await fetch(`http://127.0.0.1:${service.port}`)).json() as never;
  const steps = expect.any(Number) as number;
  const before = await ask();
  expect(before).toEqual({ visits: 1, steps, isLeader: true });
  await service.upgrade();
  const after = await ask();
  expect(after).toEqual({ visits: 2, steps, isLeader: true });
  expect(after.steps).toBeGreaterThan(before.steps);
  expect(await service.stop()).toBe("");
});

test.each(["StateSchema", "UnitDefinition", "DrainOptions", "DrainReport"])(
  "docs/state.md has a row for every member of %s",
  (type) => {
    expect(page.rowNames()).toEqual(expect.arrayContaining(membersOf(type)));
  },
);

test.each(["Slot", "Units"])("docs/state.md has a heading that names each member of %s", (type) => {
  const named = page.headings(3).flatMap((heading) => heading.match(/\w+/g)!);
  expect(named).toEqual(expect.arrayContaining(membersOf(type)));
});

test.each(["RoleDefinition", "SlotState", "InitiateOptions"])(
  "docs/state.md names every member of %s",
  (type) => {
    const named = new Set([...page.text.matchAll(/\w+/g)].map(([word]) => word));
    expect(membersOf(type).filter((member) => !named.has(member))).toEqual([]);
  },
);
