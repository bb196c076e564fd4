import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Page } from "../support/page.js";
import { handover } from "../support/program.js";
import { Sandbox } from "../support/sandbox.js";
import { Service, temporaryDirectory } from "../support/service.js";

const page = Page.open("troubleshooting");
const [look, watch, debug] = page.blocks("sh");
page.blocks("text");

interface Quoted {
  code: string;
  message: string;
}

/** The messages that the page quotes, by the code of their heading. */
const quoted: Quoted[] = [
  ...page.text.matchAll(/^### ((?:ERR|HANDOVER)_\w+)\n([^]*?)(?=^##|(?![^]))/gm),
].flatMap(([, code, section]) =>
  [...section!.matchAll(/^```text\n([^]*?)^```$/gm)].flatMap(([, text]) =>
    text!
      .trim()
      .split("\n")
      .map((message) => ({ code: code!, message })),
  ),
);

const sources = readdirSync("src", { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".ts"))
  .map((name) => readFileSync(join("src", name), "utf8"));

describe("every code of the program is on the page, and every code of the page is the program's:", () => {
  test("errors and refusals", () => {
    expect(codes(page.text, /\bERR_[A-Z_\d]+\b/g)).toEqual(
      codes(sources.join("\n"), /(?<=")ERR_[A-Z_\d]+(?=")/g),
    );
  });

  test("errors, each with a section and a message", () => {
    const [, union] = /export type ErrorCode =([^;]*);/.exec(readFileSync("src/errors.ts", "utf8"))!;
    const explained = [...new Set(quoted.map(({ code }) => code))].filter((code) => code.startsWith("ERR_"));
    expect(explained.toSorted()).toEqual(codes(union!, /ERR_[A-Z_\d]+/g));
  });

  test("warnings", () => {
    const own = /(?<=")HANDOVER_[A-Z_]+(?=")/g;
    const warnings = codes(sources.join("\n"), own).filter((name) => name !== "HANDOVER_CHANNEL");
    expect(
      [...new Set(quoted.map(({ code }) => code))].filter((code) => code.startsWith("HANDOVER_")).toSorted(),
    ).toEqual(warnings);
  });
});

test("every message of the page is really said", async () => {
  const said = [await troubles(), await wrongStarts(), await refusals(), await questions()].flat();
  const isSaid = ({ code, message }: Quoted): boolean => {
    // What is not met with here is at least in the source.
    if (ELSEWHERE.test(message)) return literals.some((one) => one.test(message));
    const isMeant = pattern(message);
    return said.some((one) => one.code === code && isMeant.test(one.message));
  };
  const unsaid = quoted.filter((one) => !isSaid(one));
  expect(unsaid).toEqual([]);
});

/** What takes several generations of bad luck; other tests meet with it. */
const ELSEWHERE = new RegExp(
  [
    "no room for more",
    "too many older generations",
    "the successor was not ready within",
    "did not say go",
    "did not say hello",
    "cannot understand a message",
    "adopt a WebSocket",
    "cannot acquire the role",
    "a predecessor has it",
    "rolled back: ",
    "PID 1",
    "load the addon",
    "processes have died",
    "attempts have failed",
    "systemd has passed",
    "after a rollback",
    "its thaw threw",
    "the predecessor\\)$",
  ].join("|"),
);

/** The texts of the program: what is put into them may be anything. */
const literals = [...sources.join("\n").matchAll(/`((?:[^`\\]|\\.)*)`|"((?:[^"\\\n]|\\.)*)"/g)]
  .map(([, template, text]) => template ?? text!)
  .filter((text) => text.replaceAll(/\$\{[^}]*\}/g, "").trim().length > 12)
  .map(
    (text) =>
      new RegExp(
        text
          .split(/\$\{[^}]*\}/)
          .map(escape)
          .join(".+"),
      ),
  );

/** Numbers, paths and names are examples; an ellipsis stands for anything. */
function pattern(message: string): RegExp {
  const text = escape(message)
    .replaceAll("…", ".*")
    .replaceAll(/(?<![\w.])\/[\w./-]+/g, "\\S+")
    .replaceAll(/\d+/g, "\\d+");
  return new RegExp(`^${text}$`);
}

function escape(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}

function codes(text: string, of: RegExp): string[] {
  return [...new Set(text.match(of))].toSorted();
}

/** What one service meets with, and its successor. */
async function troubles(): Promise<Quoted[]> {
  const other = createServer().listen(0, "127.0.0.1");
  await once(other, "listening");
  const directory = temporaryDirectory();
  const busy = { port: (other.address() as AddressInfo).port, host: "127.0.0.1" };
  const settings = { directory, busy, upgradeTimeout: 2_000, probation: 1_000, exitTimeout: 100 };
  const service = Service.start("troubles.js", { settings });
  await service.until("trouble", { code: "ERR_ALREADY_UPGRADED" });
  const { pid } = await service.until("trouble", { code: "ERR_ON_PROBATION" });
  await service.until("exited", { generation: 0 });
  await service.exited;
  process.kill(pid, "SIGTERM");
  await service.ended();
  other.close();
  expect(service.lines.filter(({ event }) => event === "no trouble")).toEqual([]);
  const told = service.lines.filter(({ event }) => event === "trouble");
  return [...(told as unknown as Quoted[]), ...warningsIn(service.noise)];
}

/** What a process says that was started wrongly in every way. */
async function wrongStarts(): Promise<Quoted[]> {
  const env = { NOTIFY_SOCKET: "/nowhere/notify", pm_id: "0", PM2_HOME: "/", HANDOVER_CHANNEL: "2:1" };
  const title = `data:text/javascript,process.title = "a much shorter one than before";`;
  const service = Service.start("http.js", { nodeArgs: ["--import", title], env });
  await service.until("accepting");
  process.kill(service.pid, "SIGTERM");
  await service.ended();
  return warningsIn(service.noise);
}

/** What new Upgrader() says. */
async function refusals(): Promise<Quoted[]> {
  const settings = { attempts: [{ pidfile: "x" }, { drainTimeout: "30s" }] };
  const thread = { attempts: [{}] };
  const unwritable = Service.start("http.js", { settings: { pidFile: "/nowhere/app.pid" } });
  const services = [
    Service.start("misuse.js", { settings }),
    Service.start("in-thread.js", { settings: thread }),
  ];
  await Promise.all([...services, unwritable].map(async (service) => service.ended()));
  const [, message] = /^HandoverError: (.*)$/m.exec(unwritable.noise)!;
  return [
    ...services.flatMap(({ lines }) => lines as unknown as Quoted[]),
    { code: "ERR_PID_FILE", message: message! },
  ];
}

/** What the program handover says. */
async function questions(): Promise<Quoted[]> {
  const service = Service.start("plain.js");
  await service.until("accepting");
  const directory = temporaryDirectory();
  writeFileSync(join(directory, "gone.pid"), "99999999\n");
  const ways = [
    ["--pid-file", join(directory, "gone.pid")],
    ["99999999"],
    ["--control", join(directory, "none.sock")],
    [String(service.pid)],
    ["--pid-file", join(directory, "none.pid")],
  ];
  const runs = await Promise.all(ways.map(async (way) => handover("status", ...way, "--json")));
  return runs.map(({ stdout }) => JSON.parse(stdout) as Quoted);
}

function warningsIn(noise: string): Quoted[] {
  return [...noise.matchAll(/\[(HANDOVER_\w+)\] Warning: (.*)/g)].map(([, code, message]) => {
    return { code: code!, message: message! };
  });
}

describe.skipIf(Sandbox.missing)(`the commands of the page${Sandbox.why}`, () => {
  test("show what a service does", async () => {
    const sandbox = await Sandbox.start();
    await sandbox.write("/srv/package.json", '{ "type": "module" }');
    await sandbox.write("/srv/server.js", SERVER);
    await sandbox.run(`${debug!.trim()} 2>/srv/log & until [ -e /run/app/app.pid ]; do :; done`);
    expect(await sandbox.run(look!)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^state +ready$[^]*^done: the new code gets ready/m) as string,
    });
    const follow =
      `${watch!.trim()} >/srv/seen & watching=$!; until grep -qs "generation *0" /srv/seen; do :; done; ` +
      "handover upgrade --pid-file /run/app/app.pid; " +
      'until grep -q "generation *1" /srv/seen; do :; done; kill -INT $watching; wait $watching';
    expect(await sandbox.run(follow)).toMatchObject({ code: 0, stderr: "" });
    expect((await sandbox.run("cat /srv/log")).stdout).toMatch(/^HANDOVER \d+: upgraded \{/m);
  });
});

const SERVER = `import { createServer } from "node:http";
import { Upgrader } from "handover";
const upg = new Upgrader({ pidFile: "/run/app/app.pid", probation: 300 });
await upg.listen(createServer((request, response) => response.end("hello\\n")), { port: 8080 });
await upg.ready();
await upg.exit;
`;
