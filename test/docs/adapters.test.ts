import { once } from "node:events";
import { connect } from "node:net";
import { expect, test } from "vitest";
import { membersOf } from "../support/declarations.js";
import { DocumentedProgram } from "../support/documented.js";
import { Page } from "../support/page.js";

const page = Page.open("adapters");
const program = page.block("js", "// counter.js");

test("the connections of docs/adapters.md move", async () => {
  const service = await DocumentedProgram.start(program);
  const client = connect(service.port, "127.0.0.1");
  const next = async (): Promise<string> => String(((await once(client, "data")) as [Buffer])[0]);
  client.write("abc");
  expect(await next()).toBe("3 bytes\n");
  await service.upgrade();
  client.write("de");
  expect(await next()).toBe("5 bytes\n");
  client.end();
  expect(await service.stop()).toBe("");
});

test("docs/adapters.md has a row for every member of ConnectionAdapter", () => {
  expect([...new Set(page.rowNames())].toSorted()).toEqual(membersOf("ConnectionAdapter").toSorted());
});

test("docs/adapters.md says what happens if a function of ConnectionAdapter fails", () => {
  const functions = membersOf("ConnectionAdapter").filter((member) => !["name", "version"].includes(member));
  const rows = page.rowNames();
  // The first row explains the function, the second its failure.
  expect(functions.filter((name) => rows.filter((row) => row === name).length < 2)).toEqual([]);
});
