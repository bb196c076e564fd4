import { mkdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, test } from "vitest";
import type { Actor } from "../support/actor.js";
import { fixturePath, isServed } from "../support/faults.js";
import { ask, temporaryDirectory } from "../support/service.js";
import { said, says, servesAlone, startStaging, upgradesAfresh } from "../support/staged.js";

test("a staged process is thrown away if the release, the words, the environment or the directory is another one now", async () => {
  const home = temporaryDirectory();
  const script = join(home, "current", "server.js");
  const deploy = (release: string): void => {
    mkdirSync(join(home, release));
    const fixture = pathToFileURL(fixturePath("obeys-stages.js")).href;
    writeFileSync(
      join(home, release, "server.js"),
      `globalThis.release = "${release}"; await import("${fixture}");`,
    );
    symlinkSync(release, join(home, "next"));
    renameSync(join(home, "next"), join(home, "current"));
  };
  deploy("1");
  const first = await startStaging();
  await first.tell("plan", { script });
  const changes: [change: (actor: Actor) => unknown, reason: string, is: object][] = [
    [() => deploy("2"), `${script} has changed`, { release: "2" }],
    [
      (one) => one.tell("plan", { args: ["--new"] }),
      "the command of the successor has changed",
      { args: ["--new"] },
    ],
    [
      (one) => one.tell("plan", { env: { NEW: "3" } }),
      "the environment of the successor has changed",
      { NEW: "3" },
    ],
    [(one) => one.tell("plan", { cwd: home }), "the command of the successor has changed", { cwd: home }],
  ];
  let actor = first;
  for (const [change, reason, is] of changes) {
    await actor.stage();
    await change(actor);
    const successor = await upgradesAfresh(actor);
    expect(said(actor, "unstaged")).toMatchObject([{ reason }]);
    expect(await successor.says("initialized")).toMatchObject(is);
    actor = await successor.confirmed();
  }
});

test.each([
  ["--env-file=F", (file: string) => ({ nodeArgs: [`--env-file=${file}`] })],
  ["--env-file F", (file: string) => ({ nodeArgs: ["--env-file", file] })],
  ["--import=F", (file: string) => ({ nodeArgs: [`--import=${file}`] })],
  ["--import=URL", (file: string) => ({ nodeArgs: [`--import=${pathToFileURL(file).href}`] })],
  ["NODE_OPTIONS", (file: string) => ({ env: { NODE_OPTIONS: `--import="${file}"` } })],
])("a staged process is thrown away if the file of %s has changed", async (_, how) => {
  const file = join(temporaryDirectory(), "a file.mjs");
  writeFileSync(file, "");
  const actor = await startStaging();
  await actor.tell("plan", how(file));
  await actor.stage();
  writeFileSync(file, "\n");
  await upgradesAfresh(actor);
  expect(said(actor, "unstaged")).toMatchObject([{ reason: `${file} has changed` }]);
});

test("a staged process is used although a file has changed that an option of the program names, such as its log", async () => {
  const file = join(temporaryDirectory(), "log");
  writeFileSync(file, "");
  const actor = await startStaging();
  await actor.tell("plan", { args: [`--log=${file}`] });
  const staged = await actor.stage();
  writeFileSync(file, "a line\n");
  expect((await actor.upgrade()).pid).toBe(staged.pid);
});

describe("what the server opens and closes while a process is staged", () => {
  const reason = "a listener or descriptor was opened or closed";

  test("a new listener throws it away, and the next one has that listener", async () => {
    const first = await startStaging();
    await first.stage();
    const port = await first.tell("open");
    expect(await says(first, "unstaged")).toMatchObject({ reason });
    const staged = await first.stage();
    expect(await staged.tell("open")).toBe(port);
    expect((await first.upgrade()).pid).toBe(staged.pid);
    expect(await ask(Number(port))).toBe(String(staged.pid));
  });

  test("a listener that is closed throws it away, and its port is free", async () => {
    const first = await startStaging();
    const port = Number(await first.tell("open"));
    await first.stage();
    expect(await isServed(port)).toBe(true);
    await first.tell("close");
    expect(await says(first, "unstaged")).toMatchObject({ reason });
    await servesAlone(first);
    expect(await isServed(port)).toBe(false);
  });

  test("a new file throws it away, and the next one has that file", async () => {
    const first = await startStaging();
    await first.stage();
    await first.tell("addFile");
    expect(await says(first, "unstaged")).toMatchObject({ reason });
    const staged = await first.stage();
    expect((await first.upgrade()).pid).toBe(staged.pid);
    expect(await staged.says("initialized")).toMatchObject({ files: ["late"] });
  });

  test("peek() in it shows the state of the server as it is then", async () => {
    const first = await startStaging();
    const staged = await first.stage();
    expect(await staged.tell("peek")).toBe(0);
    await first.tell("set", 7);
    expect(await staged.tell("peek")).toBe(7);
  });
});
