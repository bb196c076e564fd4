import { createServer as createHttpServer } from "node:http";
import { createServer } from "node:net";
import os from "node:os";
import { inspect } from "node:util";
import { afterEach, describe, expect, test, vi } from "vitest";
import { http, type HttpOptions } from "../dist/connections/http-connections.js";
import { HandoverError } from "../dist/errors.js";
import { readOptions, type UpgraderOptions } from "../dist/options.js";
import {
  readBindOptions,
  readListenOptions,
  requireServer,
  type ListenOptions,
} from "../dist/sockets/listen-options.js";

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

const read = (options: object): ReturnType<typeof readOptions> => readOptions(options, "/srv");

test("every option has a default", () => {
  const { spawn, ...settings } = read({});
  expect(settings).toEqual({
    upgradeTimeout: 60_000,
    drainTimeout: 30_000,
    exitTimeout: 10_000,
    probation: 3_000,
    maxDraining: 4,
    pidFile: undefined,
    controlSocket: true,
    signals: { upgrade: "SIGHUP", stop: ["SIGTERM", "SIGINT"] },
    unmanaged: "refuse",
    tls: true,
    compileCache: undefined,
    exchange: undefined,
    address: undefined,
    release: undefined,
    stopDelay: 0,
    computesSpawn: false,
  });
  expect(spawn()).toEqual({});
});

test.each<[UpgraderOptions, object]>([
  [{ upgradeTimeout: 1 }, { upgradeTimeout: 1 }],
  [{ upgradeTimeout: 2 ** 31 - 1 }, { upgradeTimeout: 2 ** 31 - 1 }],
  [{ drainTimeout: 0 }, { drainTimeout: 0 }],
  [{ exitTimeout: 0 }, { exitTimeout: 0 }],
  [{ probation: 0 }, { probation: 0 }],
  [{ maxDraining: 1 }, { maxDraining: 1 }],
  [{ tls: false }, { tls: false }],
  [{ compileCache: "cache" }, { compileCache: "/srv/cache" }],
  [{ pidFile: "app.pid" }, { pidFile: "/srv/app.pid", controlSocket: "/srv/app.pid.sock" }],
  [{ pidFile: "/run/app.pid" }, { pidFile: "/run/app.pid", controlSocket: "/run/app.pid.sock" }],
  [
    { pidFile: "a", controlSocket: false },
    { pidFile: "/srv/a", controlSocket: false },
  ],
  [
    { pidFile: "a", controlSocket: "b" },
    { pidFile: "/srv/a", controlSocket: "/srv/b" },
  ],
  [{ controlSocket: "b" }, { pidFile: undefined, controlSocket: "/srv/b" }],
  [{ signals: false }, { signals: { upgrade: undefined, stop: [] } }],
  [{ signals: { upgrade: "SIGUSR2" } }, { signals: { upgrade: "SIGUSR2", stop: ["SIGTERM", "SIGINT"] } }],
  [{ signals: { upgrade: false } }, { signals: { upgrade: undefined, stop: ["SIGTERM", "SIGINT"] } }],
  [{ signals: { stop: [] } }, { signals: { upgrade: "SIGHUP", stop: [] } }],
])("the Upgrader's options %o are accepted", (options, settings) => {
  expect(read(options)).toMatchObject(settings);
});

test.each([
  ["/caches", "/home/a", "/caches"],
  [undefined, "/home/a", "/home/a/.cache"],
  ["caches", "/home/a", "/home/a/.cache"],
  ["", "", `${os.userInfo().homedir}/.cache`],
  [undefined, "home", `${os.userInfo().homedir}/.cache`],
  [undefined, undefined, `${os.userInfo().homedir}/.cache`],
])("with XDG_CACHE_HOME=%s and HOME=%s the compile cache is in %s", (caches, home, place) => {
  vi.stubEnv("XDG_CACHE_HOME", caches);
  vi.stubEnv("HOME", home);
  expect(read({ compileCache: true }).compileCache).toBe(`${place}/handover`);
});

test("a user without a home directory has to name the compile cache", () => {
  vi.stubEnv("XDG_CACHE_HOME", undefined);
  vi.stubEnv("HOME", undefined);
  // As for a number that /etc/passwd does not have, in a container.
  vi.spyOn(os, "userInfo").mockImplementation(() => {
    throw new Error("no such user");
  });
  expect(() => read({ compileCache: true })).toThrow(
    expect.objectContaining({
      code: "ERR_OPTION",
      message:
        'the option "compileCache" cannot be true: this user has no home directory; set HOME, or give the path of a directory',
    }),
  );
});

const time = (name: string, least: number): string =>
  `the option "${name}" must be a whole number of milliseconds from ${least} to 2147483647`;

test.each<[object, string | RegExp]>([
  ...[0, -1, 1.5, NaN, Infinity, 2 ** 31, "60000", null, 5n, {}].map((value): [object, string] => [
    { upgradeTimeout: value },
    `${time("upgradeTimeout", 1)}, not ${inspect(value)}`,
  ]),
  [{ compileCache: 5 }, 'the option "compileCache" must be true, false or a path, not 5'],
  // Nothing of the value, which may have a password.
  [
    { exchange: { url: "postgres://chat:secret@127.0.0.1/chat" } },
    /^the option "exchange" must be what postgres\(\), etcd\(\) or kubernetesLease\(\) returns$/,
  ],
  [{ signals: null }, 'the option "signals" takes an object of options, not null'],
  [{ spawn: null }, 'the option "spawn" takes an object of options, not null'],
  [{ signals: { upgrade: null } }, /that can be caught, not null$/],
  [{ drainTimeout: -1 }, `${time("drainTimeout", 0)}, not -1`],
  [{ exitTimeout: "0" }, `${time("exitTimeout", 0)}, not '0'`],
  [{ probation: false }, `${time("probation", 0)}, not false`],
  // The channels of all of them go to a successor in one message.
  [{ maxDraining: 254 }, 'the option "maxDraining" must be a whole number from 1 to 253, not 254'],
  [{ maxDraining: 0 }, 'the option "maxDraining" must be a whole number from 1 to 253, not 0'],
  [{ pidFile: "" }, "the option \"pidFile\" must be a path, not ''"],
  [{ pidFile: 7 }, 'the option "pidFile" must be a path, not 7'],
  [{ pidFile: "a\0b" }, "the option \"pidFile\" must be a path, not 'a\\x00b'"],
  [{ tls: "no" }, "the option \"tls\" must be true or false, not 'no'"],
  [{ controlSocket: true }, 'the option "controlSocket" must be a path, not true'],
  [{ signals: true }, 'the option "signals" takes an object of options, not true'],
  [{ signals: [] }, 'the option "signals" takes an object of options, not []'],
  [
    { signals: { stop: "SIGTERM" } },
    "the option \"signals.stop\" must be an array of signal names, not 'SIGTERM'",
  ],
  [
    { signals: { upgrade: "HUP" } },
    "the option \"signals\" must be names of signals that can be caught, not 'HUP'",
  ],
  [{ signals: { upgrade: "SIGKILL" } }, /that can be caught, not 'SIGKILL'$/],
  [{ signals: { stop: ["SIGSTOP"] } }, /that can be caught, not 'SIGSTOP'$/],
  [{ signals: { stop: ["toString"] } }, /that can be caught, not 'toString'$/],
  [{ signals: { stop: [15] } }, /that can be caught, not 15$/],
  [{ signals: { upgrade: "SIGTERM" } }, /^the option "signals" must be different signals, not \{/],
  [{ signals: { stop: ["SIGINT", "SIGINT"] } }, /must be different signals/],
  [
    { signals: { start: "SIGUSR1" } },
    'the option "signals" does not know the option "start"; it knows upgrade, stop',
  ],
  [{ spawn: 1 }, 'the option "spawn" takes an object of options, not 1'],
  [
    { spawn: { arg: [] } },
    /^the option "spawn" does not know the option "arg"; it knows command, args, cwd, env$/,
  ],
  [{ pidfile: "a" }, 'new Upgrader() does not know the option "pidfile"; did you mean "pidFile"?'],
  [
    { timeout: 1 },
    /^new Upgrader\(\) does not know the option "timeout"; it knows upgradeTimeout, drainTimeout, /,
  ],
  [[], "new Upgrader() takes an object of options, not []"],
])("the Upgrader's options %o are refused", (options, message) => {
  expect(refusal(() => read(options))).toMatch(asPattern(message));
});

test("the result of a `spawn` function is checked at its call", () => {
  const { spawn } = read({ spawn: () => ({ shell: true }) });
  expect(() => spawn()).toThrow('what the option "spawn" returned does not know the option "shell"');
  expect(() => read({ spawn: () => undefined }).spawn()).toThrow("takes an object of options, not undefined");
});

describe("listen()", () => {
  const tcp = { kind: "tcp", host: "*", port: 80, ipv6Only: false };

  test.each([
    [80, undefined, { address: tcp, name: undefined, backlog: 511, mode: -1, signal: undefined }],
    ["80", undefined, { address: tcp }],
    [80, "::1", { address: { ...tcp, host: "::1" } }],
    [{ port: 80 }, undefined, { address: tcp }],
    [{ port: "80", host: "localhost" }, undefined, { address: { ...tcp, host: "localhost" } }],
    [{ port: 80, ipv6Only: true, exclusive: true }, undefined, { address: { ...tcp, ipv6Only: true } }],
    [{ port: 80, name: "main", backlog: 5 }, undefined, { name: "main", backlog: 5 }],
    [{ path: "a" }, undefined, { address: { kind: "unix", path: "/srv/a" }, mode: -1 }],
    [{ path: "a", mode: 0o600 }, undefined, { mode: 0o600 }],
    [{ path: "a", readableAll: true }, undefined, { mode: 0o744 }],
    [{ path: "a", writableAll: true }, undefined, { mode: 0o722 }],
    [{ path: "a", readableAll: false }, undefined, { mode: -1 }],
  ])("listen() accepts %o, %o", (options, host, wish) => {
    expect(listen(options, host)).toMatchObject(wish);
  });

  test.each([
    [{}, 'the option "port" must be a whole number from 0 to 65535, not undefined'],
    [65_536, 'the option "port" must be a whole number from 0 to 65535, not 65536'],
    [-1, /not -1$/],
    ["http", /not 'http'$/],
    ["", /not ''$/],
    [{ port: 80, path: "a" }, 'the option "port" must be left out where there is a path, not 80'],
    [{ port: 80, host: "" }, "the option \"host\" must be a string that is not empty, not ''"],
    [{ path: "" }, "the option \"path\" must be a string that is not empty, not ''"],
    [{ port: 80, backlog: -1 }, 'the option "backlog" must be a whole number, not -1'],
    [{ port: 80, mode: 0o600 }, 'the option "mode" must be left out where there is no path, not 384'],
    [{ path: "a", mode: 0o1000 }, 'the option "mode" must be a file mode from 0 to 0o777, not 512'],
    [{ port: 80, name: "" }, "the option \"name\" must be a string of 1 to 256 characters, not ''"],
    [{ port: 80, name: "x".repeat(257) }, /"name" must be a string of 1 to 256 characters/],
    [{ port: 80, Host: "a" }, 'listen() does not know the option "Host"; did you mean "host"?'],
    [{ fd: 3 }, /^listen\(\) does not know the option "fd"; it knows port, host, path, /],
  ])("listen() refuses %o", (options, message) => {
    expect(refusal(() => listen(options as ListenOptions))).toMatch(asPattern(message));
  });
});

/** The frameworks' applications, by the members that matter. */
test.each<[string, unknown, string]>([
  ["Express", Object.assign(() => {}, { listen() {} }), "; give it http.createServer(app)"],
  ["Fastify", { server: createHttpServer(), listen() {} }, "; give it app.server, after await app.ready()"],
  ["hapi", { listener: createHttpServer() }, "; give it app.listener"],
  ["NestJS", { getHttpServer() {} }, "; give it app.getHttpServer(), after await app.init()"],
  ["Koa", { callback() {} }, "; give it http.createServer(app.callback())"],
  [
    "Hono",
    { fetch() {} },
    "; give it a server that an adapter makes of app.fetch, such as createAdaptorServer() of @hono/node-server",
  ],
  ["Polka before it listens", { server: undefined }, ""],
  ["a port", 8080, ""],
  ["nothing", undefined, ""],
])("listen() says where the server of %s is", (_, given, advice) => {
  const message = `listen() takes a net.Server, not ${inspect(given, { depth: -1 })}${advice}`;
  expect(() => requireServer(given)).toThrow(new HandoverError("ERR_OPTION", message));
});

describe("bind()", () => {
  const udp4 = { type: "udp4", ipv6Only: false };
  const udp6 = { type: "udp6", ipv6Only: true };

  test.each([
    [{}, undefined, udp4, { kind: "udp", host: "0.0.0.0", port: 0, ipv6Only: false }],
    [53, undefined, udp6, { kind: "udp", host: "::", port: 53, ipv6Only: true }],
    ["53", "127.0.0.1", udp4, { kind: "udp", host: "127.0.0.1", port: 53, ipv6Only: false }],
    [{ port: 53, address: "::1" }, undefined, udp6, { kind: "udp", host: "::1", port: 53, ipv6Only: true }],
  ])("bind() accepts %o, %o for %o", (options, address, socket, requested) => {
    expect(readBindOptions(options, address, socket).address).toEqual(requested);
  });

  test.each([
    [{ port: 70_000 }, 'the option "port" must be a whole number from 0 to 65535, not 70000'],
    [{ address: 1 }, 'the option "address" must be a string that is not empty, not 1'],
    [{ fd: 3 }, 'bind() does not know the option "fd"; it knows port, address, exclusive, name, early'],
  ])("bind() refuses %o", (options, message) => {
    expect(() => readBindOptions(options as object, undefined, udp4)).toThrow(
      expect.objectContaining({ code: "ERR_OPTION", message }),
    );
  });
});

function listen(options: ListenOptions | number | string, host?: string): object {
  return readListenOptions(createServer(), options, host, "/srv");
}

/** What was wrong with an option. */
function refusal(action: () => void): string {
  try {
    action();
  } catch (error) {
    if (error instanceof HandoverError && error.code === "ERR_OPTION") return error.message;
    throw error;
  }
  return "nothing was refused";
}

/** A string means all of it. */
function asPattern(message: string | RegExp): RegExp {
  return typeof message === "string"
    ? new RegExp(`^${message.replaceAll(/[[\]{}()*+?.\\^$|]/g, "\\$&")}$`)
    : message;
}

const give = (connections: unknown): unknown =>
  readListenOptions(createServer(), { port: 0, connections } as ListenOptions, undefined, "/srv");

test("connections may be false, and http() for a server of HTTP only", () => {
  expect(give(false)).toMatchObject({ connections: false });
  const connections = http({ version: 1 });
  expect(readListenOptions(createHttpServer(), { connections, port: 0 }, undefined, "/srv")).toMatchObject({
    connections,
  });
  expect(refusal(() => give(connections))).toMatch(
    /^the option "connections" must be an adapter, as http\(\) is for servers of HTTP\/1.1, not HttpConnections/,
  );
});

test.each([
  [{}, 'the option "version" must be a whole number, not undefined'],
  [{ version: 1.5 }, 'the option "version" must be a whole number, not 1.5'],
  [{ version: 1, save: 1 }, 'the option "save" must be a function, not 1'],
  [{ version: 1, load() {} }, 'http() does not know the option "load"; it knows version, save, restore'],
])("http() refuses %o", (options, message) => {
  expect(refusal(() => http(options as HttpOptions))).toBe(message);
});

test.each([
  { name: 1 },
  { version: -1 },
  { version: "1" },
  { version: undefined },
  { idle: undefined },
  { freeze: {} },
  { thaw: null },
  { close: true },
  { idleTimeout: 1 },
  { moved: "moved" },
])("an adapter is refused with %o", (wrong) => {
  const adapter = { name: "lines", version: 1, idle: () => true, freeze: () => ({}), thaw: () => {} };
  expect(give(adapter)).toMatchObject({ connections: adapter });
  expect(() => give({ ...adapter, ...wrong })).toThrow(
    expect.objectContaining({
      code: "ERR_OPTION",
      message: expect.stringContaining('"connections"') as string,
    }),
  );
});

test.each([null, "lines", 1, true])("the option connections refuses %o", (connections) => {
  expect(() => give(connections)).toThrow(/"connections"/);
});
