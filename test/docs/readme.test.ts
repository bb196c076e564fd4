import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { DocumentedProgram } from "../support/documented.js";
import { Page } from "../support/page.js";
import { handover } from "../support/program.js";
import { Sandbox, UNTIL_SERVED } from "../support/sandbox.js";
import { temporaryDirectory } from "../support/service.js";

const page = Page.open("README.md");
const demo = page.block("sh", "npx handover demo");
const clone = page.block("sh", "npm ci");
const install = page.block("sh", "npm install");
const withoutCode = page.block("sh", "handover/auto");
const commands = page.block("sh", "curl");
const server = page.block("js", "// server.js");
const webSockets = page.block("js", "WebSocketServer");
const state = page.block("js", "upg.slot");
const unit = page.block("ini");
const counts = page.block("text", "requests");
const synopsis = page.block("text", "handover upgrade");
page.block("text", "predecessor");

const { name, scripts } = JSON.parse(readFileSync("package.json", "utf8")) as {
  name: string;
  scripts: Record<string, string>;
};

test("README.md has at most 250 lines", () => {
  expect(page.text.trimEnd().split("\n").length).toBeLessThanOrEqual(250);
});

test("README.md has no table cell of more than 100 characters", () => {
  const cells = page.text.match(/^\|.*$/gm)!.flatMap((row) => row.split("|").map((cell) => cell.trim()));
  expect(cells.filter((cell) => cell.length > 100)).toEqual([]);
});

test("the demo of README.md prints the lines that README.md shows", async () => {
  const words = demo.trim().split(" ").slice(2);
  const { code, stdout } = await handover(...words, "--upgrades", 2);
  expect(code).toBe(0);
  expect(withoutNumbers(stdout)).toContain(withoutNumbers(counts));
});

test("the commands for a clone are scripts of package.json", () => {
  expect([...clone.matchAll(/npm (start|test)/g)].map(([, script]) => scripts[script!])).toEqual([
    demo.trim().replace("npx handover", "node bin/handover.js"),
    expect.stringMatching(/^vitest run /),
  ]);
});

test("the commands for an installation make a project of ES modules", () => {
  const [npmInstall, ...others] = install.trim().split("\n");
  expect(npmInstall).toBe(`npm install ${name}`);
  const directory = temporaryDirectory();
  writeFileSync(join(directory, "package.json"), "{}");
  execFileSync("/bin/sh", ["-e", "-c", others.join("\n")], { cwd: directory });
  expect(JSON.parse(readFileSync(join(directory, "package.json"), "utf8"))).toEqual({ type: "module" });
});

test("README.md starts a program without a line of code as docs/auto.md does", () => {
  expect(readFileSync("docs/auto.md", "utf8")).toContain(withoutCode);
});

test("the program of README.md is upgraded", async () => {
  const program = await DocumentedProgram.start(withLines(""));
  const answer = async (): Promise<string> => (await fetch(`http://127.0.0.1:${program.port}`)).text();
  expect(await answer()).toBe(`hello from ${program.pid}\n`);
  const pid = await program.upgrade();
  expect(await answer()).toBe(`hello from ${pid}\n`);
  expect(await program.stop()).toBe("");
});

test("WebSockets move if the lines of README.md are added to its program", async () => {
  const counting =
    "wss.on('connection', (ws) => { ws.count = 0; ws.on('message', () => ws.send(`${++ws.count}`)); });";
  const program = await DocumentedProgram.start(withLines(`${webSockets}${counting}\n`));
  const client = new WebSocket(`ws://127.0.0.1:${program.port}`);
  const count = async (): Promise<string> => {
    client.send("a");
    return String(((await once(client, "message")) as [Buffer])[0]);
  };
  await once(client, "open");
  expect(await count()).toBe("1");
  await program.upgrade();
  expect(await count()).toBe("2");
  client.close();
  await once(client, "close");
  expect(await program.stop()).toBe("");
});

test("state moves if the lines of README.md are added to its program", async () => {
  const visiting = withLines(state).replace(/response\.end\(.*?\)\);/, "response.end(String(++visits)));");
  const program = await DocumentedProgram.start(visiting);
  const visit = async (): Promise<number> =>
    Number(await (await fetch(`http://127.0.0.1:${program.port}`)).text());
  expect(await visit()).toBe(1);
  await program.upgrade();
  expect(await visit()).toBe(2);
  expect(await program.stop()).toBe("");
});

test("the unit of README.md has lines of what handover unit prints", async () => {
  const { stdout } = await handover(
    "unit",
    "--name",
    "app",
    "--exec",
    "/usr/bin/node /srv/app/current/server.js",
  );
  const printed = stdout.replaceAll(/^(ExecReload=)\S+/gm, "$1/usr/bin/node").split("\n");
  expect(
    unit
      .trim()
      .split("\n")
      .filter((line) => !printed.includes(line)),
  ).toEqual([]);
});

test("README.md lists the commands that handover has", async () => {
  const { stdout } = await handover("--help");
  const has = [...stdout.matchAll(/^ {2}([a-z]+)(?:\|[a-z]+)? (?:\[|<| )/gm)].map(([, command]) => command);
  const lists = [...synopsis.matchAll(/^handover (\w+)/gm)].map(([, command]) => command);
  expect(lists).toEqual(has.filter((command) => command !== "help"));
});

describe.skipIf(Sandbox.missing)(`a host of its own${Sandbox.why}`, () => {
  test("runs the commands of README.md, which upgrade its program", async () => {
    const sandbox = await Sandbox.start();
    await sandbox.write("/srv/package.json", '{ "type": "module" }');
    await sandbox.write("/srv/server.js", server);
    // As an installation makes it.
    await sandbox.run(
      "mkdir node_modules/.bin; ln -s ../handover/bin/handover.js node_modules/.bin/handover",
    );
    const [start, ...others] = commands.trim().split("\n");
    const { code, stdout, stderr } = await sandbox.run(
      [
        start!.replace("&", ">/srv/log 2>&1 &"),
        UNTIL_SERVED,
        ...others.map((line) => line.replace("curl", "curl -s")),
      ].join("\n"),
    );
    expect([code, stderr]).toEqual([0, ""]);
    const [before, after] = [...stdout.matchAll(/^hello from (\d+)$/gm)].map(([, pid]) => pid);
    expect(after).toMatch(/^\d+$/);
    expect(after).not.toBe(before);
  });
});

/** The line breaks and the words; columns may have another width. */
function withoutNumbers(text: string): string {
  return text
    .replaceAll(/[\d.,]*\d m?s/g, "N ms")
    .replaceAll(/\d[\d.,]*/g, "N")
    .replaceAll(/ +/g, " ")
    .trim();
}

/** The program of README.md with a PID file, by which the test finds it, and with more lines before it listens. */
function withLines(lines: string): string {
  return server
    .replace("new Upgrader()", 'new Upgrader({ pidFile: "app.pid" })')
    .replace("await upg.listen", `${lines}\n$&`);
}
