import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { TOP_LEVEL } from "../../dist/cli/run/ecosystem-file.js";
import { ALIASES, SUPPORTED, UNSUPPORTED } from "../../dist/cli/run/pm2-keys.js";
import { Page } from "../support/page.js";
import { startHandover } from "../support/program.js";
import { temporaryDirectory } from "../support/service.js";

const page = Page.open("pm2");
const ecosystem = page.block("js");
const command = page.block("sh");
const printed = page.block("text");

/** The first two cells of the rows below a heading, without code marks; a first cell may have several names. */
function rowsOf(heading: string): [names: string[], text: string][] {
  const section = page.text.split(new RegExp(`^#+ ${heading}$`, "m"))[1]!.split(/^#/m)[0]!;
  return [...section.matchAll(/^\| (`.*?`) *\| (.*?) *\|/gm)].map(([, cell, text]) => [
    [...cell!.matchAll(/`([^`]+)`/g)].map(([, name]) => name!),
    text!.replaceAll("`", ""),
  ]);
}

test("the ecosystem file of docs/pm2.md becomes the settings that the page shows", async () => {
  const directory = temporaryDirectory();
  writeFileSync(join(directory, "server.js"), "");
  writeFileSync(join(directory, "ecosystem.config.cjs"), ecosystem);
  const [word, ...args] = command.trim().split(" ");
  expect(word).toBe("handover");
  const { code, stdout, stderr } = await startHandover(args, { PWD: directory }, directory).ended;
  expect(code).toBe(0);
  expect(stdout.split("\n")).toEqual(expect.arrayContaining(printed.trim().split("\n")));
  expect(stderr).toMatch(/kill_timeout is not used: /);
});

test("docs/pm2.md has a row for every key that is used, with what it becomes", () => {
  const rows = rowsOf("Keys that are used").map(([[name], text]) => [name, text]);
  expect(Object.fromEntries(rows)).toEqual(SUPPORTED);
});

test("docs/pm2.md has every key that is not used, with what to do instead", () => {
  const rows = rowsOf("Keys that are not used").flatMap(([names, text]) => names.map((name) => [name, text]));
  const others = Object.entries(ALIASES).flatMap(([name, key]) =>
    key in UNSUPPORTED ? [[name, UNSUPPORTED[key]]] : [],
  );
  expect(Object.fromEntries(rows)).toEqual({ ...UNSUPPORTED, ...Object.fromEntries(others) });
});

test("docs/pm2.md names every other spelling of a key, and the keys beside apps", () => {
  const names = [...Object.keys(ALIASES), ...Object.keys(TOP_LEVEL)];
  expect(names.filter((name) => !page.text.includes(`\`${name}\``))).toEqual([]);
});

test("docs/pm2.md has every command of PM2", () => {
  const rows = rowsOf("The commands").flatMap(([names]) => names);
  expect(COMMANDS.filter((one) => !rows.includes(one))).toEqual([]);
});

/** Of PM2 6 and 7. */
const COMMANDS = (
  "start trigger deploy startOrRestart startOrReload pid create startOrGracefulReload stop restart scale profile:mem " +
  "profile:cpu reload id inspect delete sendSignal ping updatePM2 update install module:update module:generate uninstall " +
  "package publish set multiset get conf config unset report link unlink monitor unmonitor open plus login logout dump save " +
  "cleardump send attach resurrect unstartup startup logrotate ecosystem init reset describe desc info show env list ls l ps " +
  "status jlist slist prettylist monit imonit dashboard flush reloadLogs logs kill pull forward backward deepUpdate serve " +
  "autoinstall examples install-otel uninstall-otel"
).split(" ");
