import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { io } from "socket.io-client";
import { describe, expect, onTestFinished, test } from "vitest";
import { DocumentedProgram } from "../support/documented.js";
import { Page } from "../support/page.js";
import { handover, startHandover } from "../support/program.js";
import { Sandbox, UNTIL_SERVED } from "../support/sandbox.js";
import { Service, temporaryDirectory } from "../support/service.js";

const page = Page.open("workers");
const server = page.block("js", "// server.js");
const quickStart = page.block("sh", "curl");
const seen = page.block("text", "done:");
const rehearse = page.block("sh", "--dry-run");
const scale = page.block("sh", "handover scale");
const settings = page.block("json");
const socketIo = page.block("sh", "socket.io");
page.block("text", "control link");

describe.skipIf(Sandbox.missing)(`a host of its own${Sandbox.why}`, () => {
  test("runs the commands of docs/workers.md, which print what the page shows", async () => {
    const sandbox = await Sandbox.start();
    await sandbox.write("/srv/package.json", '{ "type": "module" }');
    await sandbox.write("/srv/server.js", server);
    const [start, ...others] = quickStart.trim().split("\n");
    const first = await sandbox.run(
      [start!.replace("&", ">/srv/log 2>&1 &"), UNTIL_SERVED, ...others.map(quietly)].join("\n"),
    );
    expect(first).toMatchObject({ code: 0, stderr: "" });
    const lines = first.stdout.trim().split("\n");
    expect([lines[0], lines.at(-1)].map(withoutNumbers)).toEqual(seen.trim().split("\n").map(withoutNumbers));
    const clients = sandbox.clients();
    await clients.answered(/worker \d of 2, generation 1/);
    expect(await sandbox.run(rehearse)).toMatchObject({ code: 0, stderr: "" });
    await clients.answered(/worker \d of 2, generation 2/);
    const [four, restart, two, status, stop] = scale.trim().split("\n");
    expect(await sandbox.run(four!)).toMatchObject({ code: 0, stderr: "" });
    await clients.answered(/worker 3 of 4, generation 2/);
    expect(await sandbox.run(`${restart}\n${two}`)).toMatchObject({ code: 0, stderr: "" });
    const { answers, failures } = await clients.leave();
    expect(failures).toEqual([]);
    expect(Object.keys(answers)).toEqual(expect.arrayContaining([expect.stringMatching(/^worker 2 of 4/)]));
    const shown = await sandbox.run(status!);
    expect(shown.stdout).toMatch(/2 of 2 workers accept/);
    expect(await sandbox.run(`${stop}\ncat /srv/log`)).toMatchObject({ code: 0, stderr: "" });
  });
});

test("the program of docs/workers.md says that it runs alone without handover run", async () => {
  const program = await DocumentedProgram.start(
    server.replace("new Upgrader()", 'new Upgrader({ pidFile: "app.pid" })'),
  );
  const answer = await (await fetch(`http://127.0.0.1:${program.port}`)).text();
  expect(answer).toBe("alone, generation 0\n");
  await program.stop();
});

test("the file of settings of docs/workers.md is read, with the options of supervise()", async () => {
  const directory = temporaryDirectory();
  writeFileSync(join(directory, "server.js"), "");
  writeFileSync(join(directory, "handover.config.json"), settings);
  const { code, stdout } = await startHandover(["run", "--dry-run", "--json"], { PWD: directory }, directory)
    .ended;
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ name: "shop", workers: 2, maxMemory: 512 * 2 ** 20 });
});

test("the example with socket.io keeps clients of two workers connected over an upgrade", async () => {
  const [command, ...words] = socketIo.trim().split(" ");
  expect(command).toBe("handover");
  const directory = temporaryDirectory();
  const pidFile = join(directory, "app.pid");
  const at = words.indexOf("--");
  const options = ["--pid-file", pidFile, "--probation", "300ms"];
  const service = Service.start("", {
    command: [process.execPath, "bin/handover.js", ...words.slice(0, at), ...options, ...words.slice(at)],
    env: { PORT: "0" },
  });
  await service.untilNoise(/(listens on port[^]*){2}/);
  const port = /port (\d+)/.exec(service.noise)![1]!;
  const clients = Array.from({ length: 8 }, () =>
    io(`http://127.0.0.1:${port}`, { transports: ["websocket"] }),
  );
  const told = clients.map((client) => {
    onTestFinished(() => void client.disconnect());
    const events: string[] = [];
    for (const event of ["connect", "disconnect"]) client.on(event, () => events.push(event));
    return events;
  });
  const add = async (): Promise<Answer[]> =>
    Promise.all(clients.map(async (client) => (await client.emitWithAck("add")) as Answer));
  const before = await add();
  expect((await handover("upgrade", "--pid-file", pidFile)).code).toBe(0);
  let after = await add();
  let asked = 2;
  for (; after.some(({ generation }) => generation === 0); asked++) after = await add();
  expect(before).toEqual(clients.map(() => ({ generation: 0, count: 1 })));
  expect(after).toEqual(clients.map(() => ({ generation: 1, count: asked })));
  expect(told).toEqual(clients.map(() => ["connect"]));
});

interface Answer {
  generation: number;
  count: number;
}

/** What curl prints of its progress is for people. */
function quietly(line: string): string {
  return line.replace("curl", "curl -s");
}

function withoutNumbers(line = ""): string {
  return line.replaceAll(/worker \d|pid \d+/g, (text) => text.replace(/\d+/, "N"));
}
