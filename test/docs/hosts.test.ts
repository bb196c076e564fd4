import { expect, test } from "vitest";
import { migrationText } from "../../dist/postgres/index.js";
import { membersOf } from "../support/declarations.js";
import { Page } from "../support/page.js";
import { handover } from "../support/program.js";

// test/hosts/documented.test.ts runs them, with a PostgreSQL.
const page = Page.open("hosts");
page.blocks("js");
page.blocks("sql");
const commands = page.block("sh");

test("docs/hosts.md has a row for every option of postgres()", () => {
  const section = page.text.split("## postgres(options)\n")[1]!.split("\n## ")[0]!;
  const rows = [...section.matchAll(/^\| `(\w+)`/gm)].map(([, option]) => option!);
  expect(rows.toSorted()).toEqual(
    [...membersOf("PostgresOptions"), ...membersOf("DatabaseOptions")].toSorted(),
  );
});

test("docs/hosts.md has a row for every option of etcd()", () => {
  const section = page.text.split("## etcd(options)\n")[1]!.split("\n## ")[0]!;
  const rows = [...section.matchAll(/^\| `(\w+)`/gm)].map(([, option]) => option!);
  expect(rows.toSorted()).toEqual(membersOf("EtcdOptions").toSorted());
});

test("docs/hosts.md describes every member that only units of all hosts have", () => {
  for (const member of ["recover", "moved", "capacity", "attach", "accept"])
    expect(page.text).toContain(`\`${member}`);
});

test("handover migrate --dry-run prints the statements and the rights, and connects to nothing", async () => {
  expect(commands).toContain("handover migrate --dry-run");
  const { stdout, code } = await handover("migrate", "--dry-run");
  expect(code).toBe(0);
  expect(stdout).toContain("create table if not exists handover.offer");
  expect(stdout).toContain("grant select, insert, update, delete on all tables in schema handover");
  // As psql reads it: with its lines, as a comment ends with one.
  expect(stdout).toBe(`${migrationText()}\n`);
});
