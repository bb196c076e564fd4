import { expect, test } from "vitest";
import { DocumentedProgram } from "../support/documented.js";
import { Page } from "../support/page.js";

const page = Page.open("one");
const program = page.block("js", "// one.js");
const commands = page.block("sh");

/** The options of `handover run` as the page writes them. */
const [, count] = /handover run --workers (\d+) --pid-file one\.pid one\.js/.exec(commands)!;

const ask = async ({ port }: DocumentedProgram, path: string): Promise<string> =>
  (await fetch(`http://127.0.0.1:${port}${path}`, { headers: { connection: "close" } })).text();

test("in plain mode the process of docs/one.md has the cron job and the rooms, and so has its successor", async () => {
  const service = await DocumentedProgram.start(program);
  expect(await ask(service, "/cron")).toContain(`process ${service.pid} has the cron job`);
  expect(await ask(service, "/lobby")).toBe(`room lobby: visit 1, in process ${service.pid}`);
  const successor = await service.upgrade();
  expect(await ask(service, "/cron")).toContain(`process ${successor} has the cron job`);
  expect(await ask(service, "/lobby")).toBe(`room lobby: visit 2, in process ${successor}`);
  expect(await service.stop()).toBe("");
});

test("in supervised mode one worker of docs/one.md has the cron job, and one has the room", async () => {
  const service = await DocumentedProgram.start(program, ["run", "--workers", count!]);
  const answers = { cron: new Set<string>(), lobby: new Set<string>() };
  // The second worker may accept later than the first one.
  for (let n = 0; n < 60 || answers.cron.size < 2; n++) {
    for (const path of ["cron", "lobby"] as const) answers[path].add(await ask(service, `/${path}`));
  }
  const holders = [...answers.cron].filter((answer) => answer.startsWith("process"));
  expect([holders.length, answers.cron.size]).toEqual([1, 2]);
  const rooms = [...answers.lobby].map((answer) => /process (\d+)$/.exec(answer)![1]);
  expect(new Set(rooms).size).toBe(1);
  expect([...answers.lobby].some((answer) => /^room lobby is in worker \d, /.test(answer))).toBe(true);
  await service.stop();
});
