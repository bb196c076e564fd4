import { expect, test } from "vitest";
import { Page } from "../support/page.js";

// test/hosts/documented.test.ts runs the program, with a PostgreSQL.
const page = Page.open("kubernetes");
const manifest = page.block("yaml");
const program = page.block("js");

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
