import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { unionOf } from "../support/declarations.js";
import { Page } from "../support/page.js";
import { handover } from "../support/program.js";
import { Service, temporaryDirectory } from "../support/service.js";

const page = Page.open("errors");
page.blocks("text");

interface Quoted {
  code: string;
  message: string;
}

/** The messages that the page quotes, each with the code of its heading. */
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

/** Names of environment variables. */
const VARIABLES = new Set([
  "HANDOVER_AUTO",
  "HANDOVER_CACHE_ADDED",
  "HANDOVER_CHANNEL",
  "HANDOVER_COMPILE_CACHE",
  "HANDOVER_READY",
  "HANDOVER_RELEASE",
  "HANDOVER_STATE",
  "HANDOVER_STATE_CHECK",
  "HANDOVER_STATE_FAILURE",
  "HANDOVER_WEBSOCKETS",
]);

describe("docs/errors.md and the source", () => {
  test("have the same codes of errors and refusals", () => {
    // ERR_HTTP_…, ERR_SERVER_… and ERR_SOCKET_… are Node's own.
    expect(codes(page.text, /\bERR_[A-Z_\d]+\b/g)).toEqual(
      codes(sources.join("\n"), /(?<=")ERR_(?!HTTP_|SERVER_|SOCKET_)[A-Z_\d]+(?=")/g),
    );
  });

  test("have the same codes of errors, each with an entry and a message", () => {
    const explained = [...new Set(quoted.map(({ code }) => code))].filter((code) => code.startsWith("ERR_"));
    expect(explained.toSorted()).toEqual(unionOf("ErrorCode").toSorted());
  });

  test("have the same codes of warnings, each with an entry and a message", () => {
    const own = /(?<=")HANDOVER_[A-Z_]+(?=")/g;
    const warnings = codes(sources.join("\n"), own).filter((name) => !VARIABLES.has(name));
    expect(
      [...new Set(quoted.map(({ code }) => code))].filter((code) => code.startsWith("HANDOVER_")).toSorted(),
    ).toEqual(warnings);
  });
});

test("every message of docs/errors.md is really printed", async () => {
  const said = [
    await troubles(),
    await lateSuccessor(),
    await wrongStarts(),
    await refusals(),
    await questions(),
  ].flat();
  const isSaid = ({ code, message }: Quoted): boolean => {
    // A message that no case below provokes is at least in the source.
    if (ELSEWHERE.test(message)) return literals.some((one) => one.test(message));
    const isMeant = pattern(message);
    return said.some((one) => one.code === code && isMeant.test(one.message));
  };
  const unsaid = quoted.filter((one) => !isSaid(one));
  expect(unsaid).toEqual([]);
});

/** Messages that take several generations of failures; other tests provoke them. */
const ELSEWHERE = new RegExp(
  [
    "no room for more",
    "the service account may not",
    "connections of a TLS server",
    "too many older generations",
    "its last uncaught error",
    "the command line cannot be read",
    "the successor was not ready within",
    "to hand over",
    "did not say hello",
    "the step ",
    "did not respond for",
    "did not stop accepting in time",
    "it is not healthy",
    "without handover",
    "waits for this process",
    "it waits for ready",
    "cannot be killed",
    "holds its channel",
    "has no effect in Node",
    "cannot understand a message",
    "the channel between two generations",
    "adopt a WebSocket",
    "it is not healthy: GET",
    "are ignored in a worker",
    "unregistered WebSocket",
    "cannot acquire the role",
    "a predecessor has it",
    "an older process of this worker",
    "the (?:supervisor|engine of the hosts) did not answer",
    "\\(pid 4711\\) has it$",
    "rolled back: ",
    "PID 1",
    "load the addon",
    "the rest of handover",
    "processes have died",
    "attempts have failed",
    "systemd has passed",
    "after a rollback",
    "the connection adapter",
    "handover/auto does not take over",
    "the predecessor\\)$",
    // test/hosts/ provokes those of several hosts.
    "PostgreSQL cannot be",
    "service account cannot be read",
    "start unit .* not ready yet",
    "changes all the time",
    "the lease of this process",
    "on web-2 has it",
    "recover\\(\\) took more than",
    "is not recovered",
    "attached to a unit",
    "it is given up",
    "another host may have it",
  ].join("|"),
);

/** The texts of the source; a value that is put into one may be anything. */
const literals = sources
  .flatMap((source) => [...source.matchAll(/`((?:[^`\\]|\\.)*)`|"((?:[^"\\\n]|\\.)*)"/g)])
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
    .replaceAll(/(?<![\w.])\/[\w./-]+/g, ".+")
    .replaceAll(/\d+/g, "\\d+");
  return new RegExp(`^${text}$`);
}

function escape(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}

function codes(text: string, of: RegExp): string[] {
  return [...new Set(text.match(of))].toSorted();
}

/** The errors of one service and its successor. */
async function troubles(): Promise<Quoted[]> {
  const other = createServer().listen(0, "127.0.0.1");
  await once(other, "listening");
  const directory = temporaryDirectory();
  const busy = { port: (other.address() as AddressInfo).port, host: "127.0.0.1" };
  const settings = { directory, busy, probation: 1_000, exitTimeout: 100 };
  const service = Service.start("meets-every-error.js", { settings });
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

/** The error of a successor that is not ready in time. No other successor has so little. */
async function lateSuccessor(): Promise<Quoted[]> {
  const service = Service.start("faulty-successor.js", { settings: { fault: "hang", upgradeTimeout: 500 } });
  return [(await service.upgrade("failed")) as unknown as Quoted];
}

/** The warnings of a process that was started wrongly in every way. */
async function wrongStarts(): Promise<Quoted[]> {
  const XDG_RUNTIME_DIR = temporaryDirectory();
  mkdirSync(join(XDG_RUNTIME_DIR, "handover"));
  const ofManagers = { NOTIFY_SOCKET: "/nowhere/notify", pm_id: "0", PM2_HOME: "/" };
  const env = { ...ofManagers, HANDOVER_CHANNEL: "2:1", XDG_RUNTIME_DIR };
  const title = `data:text/javascript,process.title = "a much shorter one than before"; process.on("SIGHUP", function onSignal() {});`;
  const service = Service.start("http.js", { nodeArgs: ["--import", title], env });
  const { code, message } = (await service.upgrade("failed")) as unknown as Quoted;
  process.kill(service.pid, "SIGTERM");
  await service.ended();
  return [{ code, message }, ...warningsIn(service.noise)];
}

/** The errors of new Upgrader(). */
async function refusals(): Promise<Quoted[]> {
  const settings = { attempts: [{ pidfile: "x" }, { drainTimeout: "30s" }] };
  const thread = { attempts: [{}] };
  const unwritable = Service.start("http.js", { settings: { pidFile: "/nowhere/app.pid" } });
  const services = [
    Service.start("creates-upgraders.js", { settings }),
    Service.start("upgraders-in-thread.js", { settings: thread }),
  ];
  await Promise.all([...services, unwritable].map(async (service) => service.ended()));
  const [, message] = /^HandoverError: (.*)$/m.exec(unwritable.noise)!;
  return [
    ...services.flatMap(({ lines }) => lines as unknown as Quoted[]),
    { code: "ERR_PID_FILE", message: message! },
  ];
}

/** The errors of the command handover. */
async function questions(): Promise<Quoted[]> {
  const service = Service.start("tcp-echo.js", { settings: { controlSocket: false } });
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
