import { expect, test } from "vitest";
import type { Upgrader } from "../../dist/index.js";
import { Page } from "../support/page.js";

const page = Page.open("concepts");
page.blocks("text");

/** The compiler refuses a state that is missing here, or too many. */
const STATES = Object.keys({
  starting: true,
  ready: true,
  upgrading: true,
  draining: true,
  exited: true,
} satisfies Record<Upgrader["state"], true>);

test("docs/concepts.md lists every value of the property state, in order", () => {
  const rows = [...page.text.matchAll(/^\| `(\w+)` +\|/gm)].map(([, state]) => state);
  expect(rows).toEqual(STATES);
});

test("docs/concepts.md defines every word once", () => {
  const words = [...page.text.matchAll(/^\*\*([^*]+)\*\*:/gm)].map(([, word]) => word!);
  expect(words.length).toBeGreaterThan(30);
  expect(words).toEqual([...new Set(words)]);
});
