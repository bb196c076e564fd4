import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { membersOf } from "../support/declarations.js";
import { Page } from "../support/page.js";

// test/hosts/documented.test.ts runs the program, with a PostgreSQL.
const page = Page.open("kubernetes");
const manifest = page.block("yaml", "kind: Deployment");
const program = page.block("js", "postgres(");
// test/hosts/kubernetes-lease.test.ts runs the program of the roles.
page.block("js", "kubernetesLease(");
const rights = page.block("yaml", "kind: RoleBinding");

const seconds = (name: string): number =>
  Number(new RegExp(`${name}: ([\\d_]+)`).exec(program)![1]!.replace("_", "")) / 1_000;

test("the grace period of docs/kubernetes.md is longer than what its program takes to stop", () => {
  const [, grace] = /terminationGracePeriodSeconds: (\d+)/.exec(manifest)!;
  const exitTimeout = 10;
  expect(Number(grace)).toBeGreaterThan(seconds("stopDelay") + seconds("drainTimeout") + exitTimeout);
});

test("the program of docs/kubernetes.md reads what its manifest gives", () => {
  const given = [...manifest.matchAll(/- name: ([A-Z_]+)$/gm)].map(([, name]) => name!);
  const [, read] = /const \{ (.*) \} = process\.env/.exec(program)!;
  expect(given.toSorted()).toEqual([...read!.split(", "), "HANDOVER_RELEASE"].toSorted());
  const [, path] = /path: (\/\w+), port: 8080/.exec(manifest)!;
  expect(program).toContain(`request.url === "${path}"`);
});

test("docs/kubernetes.md has a row for every option of kubernetesLease()", () => {
  const section = page.text.split("## Roles without a database\n")[1]!;
  const rows = [...section.matchAll(/^\| `(\w+)`/gm)].map(([, option]) => option!);
  expect(rows.toSorted()).toEqual(membersOf("KubernetesOptions").toSorted());
});

test("the service account of docs/kubernetes.md may do what its engine asks for", () => {
  const [, asked] = /const VERBS = \[(.*)\]/.exec(readFileSync("src/kubernetes/lease-api.ts", "utf8"))!;
  const [, given] = /verbs: \[(.*)\]/.exec(rights)!;
  expect(given).toBe(asked);
});
