import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SUPERVISOR_OPTIONS } from "../../dist/supervisor/settings.js";
import { Page } from "../support/page.js";
import { handover, jsonLines } from "../support/program.js";
import { Sandbox, UNTIL_SERVED } from "../support/sandbox.js";
import { Service, temporaryDirectory } from "../support/service.js";
import { Supervised } from "../support/supervised.js";

const page = Page.open("cli");
const synopsis = page.block("text");
const commands = page.blocks("sh");
const ofSupervisor = page.block("console", "handover status");

const synopses = synopsis
  .trim()
  .split("\n")
  .map((line) => [/^handover (\w+)/.exec(line)![1]!, line] as const);

test("docs/cli.md has every command of handover, each with a heading", async () => {
  const { stdout } = await handover("--help");
  const all = [...stdout.matchAll(/^ {2}([a-z]+)(?:\|[a-z]+)? (?:\[|<| )/gm)].map(([, command]) => command!);
  const own = all.filter((command) => command !== "help");
  expect(synopses.map(([command]) => command)).toEqual(own);
  expect(page.headings(2)).toEqual(expect.arrayContaining(own));
});

test.each(synopses)("the options of %s in docs/cli.md are those of its help", async (command, line) => {
  const { stdout } = await handover(command, "--help");
  const has = [...stdout.matchAll(/^ {2}(?:-\w, )?(--[\w-]+)/gm)].map(([, option]) => option!);
  const named: string[] = line.match(/--[\w-]+/g) ?? [];
  // An ellipsis stands for more options.
  const expected = has.filter((one) => one !== "--help" && (!line.includes(" …") || named.includes(one)));
  expect(named.toSorted()).toEqual(expected.toSorted());
});

test("docs/cli.md has every setting of handover.config.json", () => {
  const rows = [...page.text.matchAll(/^\| .*? \| ((?:`\w+`(?:, )?)+) *\|/gm)];
  const named = rows.flatMap(([, cell]) => [...cell!.matchAll(/\w+/g)].map(([name]) => name));
  expect([...new Set(named)].toSorted()).toEqual(SUPERVISOR_OPTIONS.toSorted());
});

describe("the fields of answers in JSON", () => {
  test("of upgrade, its dry run and stop are those of docs/cli.md", async () => {
    const service = await start();
    const rehearsed = jsonLines(await handover("upgrade", service.pid, "--dry-run", "--json"));
    expect(rehearsed.map(shapeOf)).toEqual([shapes("spawned"), shapes("rehearsed")]);
    const upgraded = jsonLines(await handover("upgrade", service.pid, "--json"));
    expect(upgraded.map(shapeOf)).toEqual(
      ["spawned", "committed", "draining", "upgraded"].map((name) => shapes(name)),
    );
    const { pid } = await service.until("accepting", { generation: 1 });
    const stopped = jsonLines(await handover("stop", pid, "--json"));
    expect(stopped.map(shapeOf)).toEqual(["draining", "stopped"].map((name) => shapes(name)));
  });

  test("of status are those of docs/cli.md", async () => {
    const service = await start();
    expect((await handover("stage", service.pid)).code).toBe(0);
    const [status] = jsonLines(await handover("status", service.pid, "--json"));
    expect(Object.keys(status!).toSorted()).toEqual(fieldsBelow("| field ").toSorted());
  });

  test("of status and list of a supervisor are those of docs/cli.md", async () => {
    const supervised = await Supervised.start("http.js");
    expect((await handover("stage", supervised.pid)).code).toBe(0);
    const [first = 0] = await supervised.pids();
    process.kill(first, "SIGKILL");
    await supervised.eventually(
      ({ workers: [one] = [] }) => one?.restarts === 1 && one.state === "ready" && one.memory! > 0,
    );
    const replaced = await handover("upgrade", supervised.pid, "--supervisor", "--json");
    expect(jsonLines(replaced).map(shapeOf)).toEqual([shapes("replaced")]);
    expect((await handover("stage", supervised.pid)).code).toBe(0);
    const [status] = jsonLines(await handover("status", supervised.pid, "--json"));
    const plain = fieldsBelow("| field ").filter((name) => name !== "signalListeners");
    const own = fieldsBelow("| of a supervisor ");
    expect(Object.keys(status!).toSorted()).toEqual([...plain, ...own].toSorted());
    const [, fields] = /An object of `workers` is\n`\{ (.*?) \}`/.exec(page.text)!;
    const { workers } = status as { workers: object[] };
    const keys = new Set(workers.flatMap((one) => Object.keys(one)));
    // Only with the option `exchange` a worker has `hosts`.
    const local = fields!.split(", ").filter((name) => name !== "hosts");
    expect([...keys].toSorted()).toEqual(local.toSorted());
    const { stdout } = await handover("status", supervised.pid);
    expect(namesOf(stdout)).toEqual(expect.arrayContaining(namesOf(ofSupervisor)));
    const [list] = jsonLines(await handover("list", "--json"));
    const services = list!["services"] as Record<string, unknown>[];
    expect(services.find(({ pid }) => pid === supervised.pid)).toMatchObject({
      name: "handover",
      workers: 2,
    });
  });

  test("of stage, unstage and an upgrade that does not use the staged process are those of docs/cli.md", async () => {
    const service = await start();
    const staged = jsonLines(await handover("stage", service.pid, "--json"));
    expect(staged.map(shapeOf)).toEqual([["spawned", "generation", "pid"], shapes("staged")]);
    const [unstaged] = jsonLines(await handover("unstage", service.pid, "--json"));
    expect(shapeOf(unstaged!)).toEqual(shapes("unstaged", "answer"));
    await handover("stage", service.pid);
    const upgraded = jsonLines(await handover("upgrade", service.pid, "--json"));
    expect(shapeOf(upgraded[0]!)).toEqual(["spawned", "generation", "pid", "staged"]);
  });

  test("of scale and restart are those of docs/cli.md", async () => {
    const service = await Supervised.start("http.js", { workers: 1 });
    const where = ["--control", service.controlSocket, "--json"];
    const more = jsonLines(await handover("scale", 2, ...where));
    expect(more.map(shapeOf)).toEqual([shapes("joined"), shapes("scaled")]);
    const restarted = jsonLines(await handover("restart", ...where));
    expect(restarted.map(({ phase, answer }) => phase ?? answer)).toEqual([
      "spawned",
      "worker-ready",
      "worker-ready",
      "committed",
      "draining",
      "restarted",
    ]);
    expect(shapeOf(restarted.at(-1)!)).toEqual(shapes("restarted"));
    const fewer = jsonLines(await handover("scale", 1, ...where));
    expect(fewer.map(shapeOf)).toEqual([shapes("leaving"), shapes("scaled")]);
    await service.stop();
  });

  test("of list are those of docs/cli.md", async () => {
    const service = await start();
    const [list] = jsonLines(await handover("list", "--json"));
    expect(shapeOf(list!)).toEqual(shapes("list"));
    const [, fields] = /a service is\n`\{ (.*?) \}`/.exec(page.text)!;
    const services = list!["services"] as Record<string, unknown>[];
    const listed = services.find(({ pid }) => pid === service.pid);
    expect(Object.keys(listed!)).toEqual(fields!.split(", "));
  });

  test("of doctor, unit and a failure are those of docs/cli.md", async () => {
    const [examined] = jsonLines(await handover("doctor", "--json"));
    expect(shapeOf(examined!)).toEqual(shapes("examined"));
    const write = ["--write", temporaryDirectory()];
    const [unit] = jsonLines(
      await handover("unit", "--exec", "/usr/bin/node x.js", "--name", "app", ...write, "--json"),
    );
    // No test installs a unit on this machine.
    expect([...shapeOf(unit!), "enabled"].toSorted()).toEqual(shapes("unit").toSorted());
    const [failed] = jsonLines(await handover("status", 99_999_999, "--json"));
    expect(shapeOf(failed!)).toEqual(shapes("failed"));
  });
});

async function start(): Promise<Service> {
  const settings = { pidFile: join(temporaryDirectory(), "app.pid"), probation: 300 };
  const service = Service.start("http.js", { settings });
  await service.until("accepting");
  return service;
}

/** The rows of a status, and the columns of its workers. */
function namesOf(text: string): string[] {
  return [...text.matchAll(/^\w+|(?<=\n.*index .*)\w+/gm)].map(([name]) => name);
}

/** The names in the first column of a table. */
function fieldsBelow(header: string): string[] {
  const [table = ""] = page.text.slice(page.text.indexOf(header)).split("\n\n");
  return [...table.matchAll(/^\| ((?:`\w+`(?:, )?)+) *\|/gm)].flatMap(([, cell]) =>
    [...cell!.matchAll(/\w+/g)].map(([name]) => name),
  );
}

/** What a line is about, and its fields. */
function shapeOf(line: Record<string, unknown>): string[] {
  return [
    String(line["phase"] ?? line["answer"]),
    ...Object.keys(line)
      .filter((key) => !/phase|answer/.test(key))
      .toSorted(),
  ];
}

/** As the page has it: `{ phase: "spawned", pid, generation }`. */
function shapes(name: string, of = "(?:phase|answer)"): string[] {
  const [, fields] = new RegExp(`\\{ "?${of}"?: "${name}", (.*?) \\}\``).exec(page.text)!;
  return [
    name,
    ...fields!
      .replaceAll(/: \[?\{[^}]*\}\]?|"/g, "")
      .split(", ")
      .toSorted(),
  ];
}

describe.skipIf(Sandbox.missing)(`a host of its own${Sandbox.why}`, () => {
  test("runs the commands of docs/cli.md in their order", async () => {
    const sandbox = await Sandbox.start();
    await sandbox.write("/srv/package.json", '{ "type": "module" }');
    await sandbox.write("/srv/server.js", SERVER);
    await sandbox.run(`node server.js >/srv/log 2>&1 & ${UNTIL_SERVED}`);
    const order = ["status", "doctor", "--dry-run", "handover stage", "unstage", "upgrade", "stop"];
    const rank = (text: string): number => order.findIndex((word) => text.includes(word));
    const ofWorkers = commands.filter((text) => /scale|restart/.test(text));
    const ofAll = commands.filter((text) => !ofWorkers.includes(text));
    const runs = async (command: string): Promise<void> =>
      expect({ command, ...(await sandbox.run(command)) }).toMatchObject({ command, code: 0, stderr: "" });
    for (const command of ofAll.toSorted((a, b) => rank(a) - rank(b))) await runs(command);
    const background = "handover run --workers 1 --pid-file /run/app/app.pid -- server.js >/srv/log 2>&1 &";
    await sandbox.run(`${background} ${UNTIL_SERVED}`);
    for (const command of ofWorkers) await runs(command);
  });
});

const SERVER = `import { createServer } from "node:http";
import { Upgrader } from "handover";
const upg = new Upgrader({ pidFile: "/run/app/app.pid", probation: 300 });
await upg.listen(createServer((request, response) => response.end("hello\\n")), { port: 8080 });
await upg.ready();
await upg.exit;
`;
