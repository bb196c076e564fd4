import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { TLSSocket } from "node:tls";
import { expect, test } from "vitest";
import { Client, selfSigned } from "../support/client.js";
import { DocumentedProgram } from "../support/documented.js";
import { Page } from "../support/page.js";
import { temporaryDirectory } from "../support/service.js";

const page = Page.open("tls");
const program = page.block("js", "// secure.js");

test("the connections of docs/tls.md move", async () => {
  const directory = temporaryDirectory();
  const files = Object.entries(selfSigned()).map(([name, text]) => [`${name}.pem`, text] as const);
  for (const [name, text] of files) writeFileSync(join(directory, name), text);
  const service = await DocumentedProgram.start(
    files.reduce((text, [name]) => text.replace(`"${name}"`, JSON.stringify(join(directory, name))), program),
  );
  const client = await Client.openTls(service.port);
  expect(await client.ask()).toBe("generation 0, encrypted: true\n");
  await service.upgrade();
  expect(await client.ask()).toBe("generation 1, encrypted: true\n");
  client.socket.destroy();
  expect(await service.stop()).toBe("");
});

test("docs/tls.md has a row for every public method of tls.TLSSocket", () => {
  const methods = Object.getOwnPropertyNames(TLSSocket.prototype).filter(
    (name) => !/^_|^constructor$/.test(name),
  );
  const named = [...page.text.matchAll(/^\| (`.*`) +\|/gm)].flatMap(([, names]) =>
    [...names!.matchAll(/`(\w+)`/g)].map(([, name]) => name!),
  );
  expect(methods.filter((name) => !named.includes(name))).toEqual([]);
});
