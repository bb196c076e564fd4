import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { migrate } from "../../dist/postgres/index.js";
import type { UnitDefinition } from "../../dist/state/units/unit-definition.js";
import { DocumentedProgram } from "../support/documented.js";
import { Postgres } from "../support/postgres.js";
import { handover } from "../support/program.js";

let server!: Postgres;
beforeAll(async () => {
  server = await Postgres.start();
  await migrate({ url: server.url });
});
afterAll(async () => server.remove());

const page = readFileSync("docs/hosts.md", "utf8");
const program = /^```js\n([^]*?)^```$/m.exec(page)![1]!;
const update = /^```sql\n([^]*?)^```$/m.exec(page)![1]!;

const ask = async ({ port }: DocumentedProgram, path: string): Promise<Response> =>
  fetch(`http://127.0.0.1:${port}${path}`, { headers: { connection: "close" }, redirect: "manual" });

test("the program of docs/hosts.md runs on two hosts: a room is on one, and moves to the other at a stop", async () => {
  expect((await handover("migrate", server.url)).stdout).toBe("the schema is up to date\n");
  const DATABASE = server.url;
  const a = await DocumentedProgram.start(program, undefined, { DATABASE, ADDRESS: "a.example:80" });
  expect(await (await ask(a, "/lobby")).text()).toBe("room lobby: visit 1");
  await expect.poll(async () => (await ask(a, "/cron")).text()).toBe("here");
  const b = await DocumentedProgram.start(program, undefined, { DATABASE, ADDRESS: "b.example:80" });
  await expect
    .poll(async () => (await ask(b, "/lobby")).headers.get("location"))
    .toBe("http://a.example:80/lobby");
  expect(await (await ask(b, "/cron")).text()).toBe("elsewhere");
  await expect.poll(async () => server.query("select from handover.seat")).toHaveLength(2);
  expect(await a.stop()).toBe("");
  expect(await (await ask(b, "/lobby")).text()).toBe("room lobby: visit 2");
  await expect.poll(async () => (await ask(b, "/cron")).text()).toBe("here");
  expect(await b.stop()).toBe("");
});

test("the accept() of docs/hosts.md takes units of an upgrade in place at once, and those of other hosts after two seconds", async () => {
  const [, member] = [...page.matchAll(/^```js\n([^]*?)^```$/gm)].map(([, code]) => code!);
  const module = `export default {${member}}`;
  const { default: definition } = (await import(`data:text/javascript,${encodeURIComponent(module)}`)) as {
    default: Required<Pick<UnitDefinition<unknown, unknown>, "accept">>;
  };
  const asks = (age: number, seat?: string): unknown =>
    definition.accept("x", { age, from: { generation: 0, pid: 1, ...(seat === undefined ? {} : { seat }) } });
  expect([asks(0), asks(0, "other"), asks(2_000, "other")]).toEqual([true, false, true]);
});

test("the statement of docs/hosts.md refuses the write of a former owner", async () => {
  await server.query("create table room (id text, text text, fence bigint)");
  await server.query("insert into room values ('a', 'first', 10)");
  const write = async (fence: number, text: string): Promise<void> => {
    const statement = update.replace("$text", "$1").replaceAll("$fence", "$2::bigint").replace("$id", "$3");
    await server.query(statement, [text, fence, "a"]);
  };
  await write(12, "new owner");
  await write(11, "former owner");
  expect(await server.query("select text from room")).toEqual([{ text: "new owner" }]);
});

test("the program of docs/kubernetes.md is ready, still accepts for its stopDelay, and ends", async () => {
  const text = /^```js\n([^]*?)^```$/m.exec(readFileSync("docs/kubernetes.md", "utf8"))![1]!;
  const env = { DATABASE: server.url, POD_IP: "10.0.0.7" };
  const pod = await DocumentedProgram.start(text, undefined, env);
  expect((await ask(pod, "/ready")).status).toBe(200);
  process.kill(pod.pid, "SIGTERM");
  expect((await ask(pod, "/anything")).status).toBe(200);
  expect(await pod.stop()).toBe("");
});
