import { createServer, type AddressInfo, type Server } from "node:net";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { failUpgrade, finish, startWithClient } from "../support/faults.js";
import { Service, temporaryDirectory } from "../support/service.js";

/** What new Upgrader() is refused with, one attempt after the other in one process. */
async function attempt(attempts: unknown[], fixture = "creates-upgraders.js"): Promise<unknown[]> {
  const service = Service.start(fixture, { settings: { attempts } });
  await service.ended();
  expect(await service.exited).toEqual([0, null]);
  expect(service.noise).toBe("");
  return service.lines.map(({ event, code, message, name }) =>
    event === "accepted" ? event : `${String(name)} ${String(code)}: ${String(message)}`,
  );
}

test("a second Upgrader is refused, also after the first one has stopped", async () => {
  expect(await attempt([{}, {}])).toEqual([
    "accepted",
    "HandoverError ERR_UPGRADER_EXISTS: this process has an Upgrader already, which is Upgrader.current: there can be only one",
  ]);
});

test.each([
  [
    "worker thread",
    "upgraders-in-thread.js",
    "a worker thread cannot be replaced on its own; create the Upgrader in the main thread",
  ],
  ["cluster worker", "upgraders-in-cluster.js", "in a node:cluster worker the primary owns the sockets"],
])("new Upgrader() is refused in a %s", async (_, fixture, why) => {
  expect(await attempt([{}], fixture)).toEqual([
    `HandoverError ERR_NOT_SUPPORTED: new Upgrader() does not work here: ${why}`,
  ]);
});

const wrong: [options: unknown, message: RegExp][] = [
  [{ pidfile: "/tmp/x" }, /does not know the option "pidfile"; did you mean "pidFile"\?$/],
  [{ color: "red" }, /does not know the option "color"; it knows upgradeTimeout, drainTimeout/],
  [{ __proto__: null, constructor: 1 }, /does not know the option "constructor"/],
  [null, /takes an object of options, not null$/],
  ["app.pid", /takes an object of options, not 'app\.pid'$/],
  [[], /takes an object of options, not \[\]$/],
  [
    { upgradeTimeout: 0 },
    /"upgradeTimeout" must be a whole number of milliseconds from 1 to 2147483647, not 0$/,
  ],
  [{ upgradeTimeout: 2 ** 31 }, /not 2147483648$/],
  [{ drainTimeout: "30s" }, /"drainTimeout" must be .*, not '30s'$/],
  [{ exitTimeout: -1 }, /"exitTimeout" must be .*, not -1$/],
  [{ probation: 1.5 }, /"probation" must be .*, not 1\.5$/],
  [{ maxDraining: 0 }, /"maxDraining" must be a whole number from 1 to 253, not 0$/],
  [{ pidFile: "" }, /"pidFile" must be a path, not ''$/],
  [{ pidFile: "a\0b" }, /"pidFile" must be a path/],
  [{ pidFile: 7 }, /"pidFile" must be a path, not 7$/],
  [{ controlSocket: true }, /"controlSocket" must be a path, not true$/],
  [{ signals: { upgrade: "SIGKILL" } }, /names of signals that can be caught, not 'SIGKILL'$/],
  [{ signals: { upgrade: "HUP" } }, /names of signals that can be caught, not 'HUP'$/],
  [{ signals: { stop: "SIGTERM" } }, /"signals\.stop" must be an array of signal names, not 'SIGTERM'$/],
  [{ signals: { stop: ["SIGHUP"] } }, /"signals" must be different signals/],
  [{ signals: { reload: "SIGHUP" } }, /"signals" does not know the option "reload"/],
  [{ spawn: { arguments: [] } }, /"spawn" does not know the option "arguments"/],
  [{ spawn: "node" }, /"spawn" takes an object of options, not 'node'$/],
];

test("new Upgrader() refuses unknown options and wrong values by name, and works after that", async () => {
  const refusals = await attempt([...wrong.map(([options]) => options), {}]);
  wrong.forEach(([, message], n) => {
    expect(refusals[n]).toMatch(/^HandoverError ERR_OPTION: /);
    expect(refusals[n]).toMatch(message);
  });
  expect(refusals.at(-1)).toBe("accepted");
});

test("listen() refuses an address in use with the PID of its owner", async () => {
  const { port } = (await listening({ port: 0, host: "127.0.0.1" })).address() as AddressInfo;
  const listen = { port, host: "127.0.0.1" };
  const why = await refusal({ listen });
  expect(why).toContain(`cannot listen on tcp:127.0.0.1:${port}: EADDRINUSE (held by pid ${process.pid})`);
});

test("listen() refuses a Unix path in use with the PID of its owner", async () => {
  const path = join(temporaryDirectory(), "app.sock");
  await listening({ path });
  const why = await refusal({ listen: { path } });
  expect(why).toContain(`cannot listen on unix:${path}: EADDRINUSE (held by pid ${process.pid})`);
});

test.each([
  ["a path that is too long", { path: `/tmp/${"x".repeat(108)}` }, "ENAMETOOLONG"],
  ["a path in no directory", { path: "/no/such/place/app.sock" }, "ENOENT"],
  ["an address of another machine", { port: 0, host: "203.0.113.1" }, "EADDRNOTAVAIL"],
  ["a file that is no socket", { path: "/etc/passwd" }, "EADDRINUSE"],
])("listen() refuses %s", async (_, listen, code) => {
  expect(await refusal({ listen })).toMatch(new RegExp(`cannot listen on (unix|tcp):.*: ${code}`));
});

test("a successor that widens its address fails with the PID of its predecessor", async () => {
  const server = await listening({ port: 0, host: "127.0.0.1" });
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  const running = await startWithClient("widens-address.js", {}, { env: { PORT: String(port) } });
  const failed = await failUpgrade(running);
  expect(failed["code"]).toBe("ERR_CHILD_EXITED");
  expect(running.service.noise).toContain(
    `cannot listen on tcp:0.0.0.0:${port}: EADDRINUSE (held by pid ${running.service.pid}, the predecessor)`,
  );
  await finish(running);
});

/** What a server says that cannot start. */
async function refusal(settings: object): Promise<string> {
  const service = Service.start("http.js", { settings });
  await service.ended();
  expect(await service.exited).toEqual([1, null]);
  expect(service.noise).toContain("code: 'ERR_LISTEN'");
  return service.noise;
}

/** A listener of the test's own. */
async function listening(where: { port: number; host: string } | { path: string }): Promise<Server> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(where, resolve));
  onTestFinished(() => void server.close());
  return server;
}

test("a call with wrong options is refused, and starts no process", async () => {
  const attempts = ["upgrade", "rehearse", "stage"].flatMap((method): [string, unknown, string][] => [
    [method, null, `${method}() takes an object of options, not null`],
    [method, "SIGUSR2", `${method}() takes an object of options, not 'SIGUSR2'`],
    [method, { dryRun: true }, `${method}() does not know the option "dryRun"; it knows signal, force`],
    [method, { signal: 5 }, 'the option "signal" must be an AbortSignal, not 5'],
    [method, { force: "yes" }, "the option \"force\" must be true or false, not 'yes'"],
  ]);
  const cases = [
    ...attempts,
    ["stage", { ttl: "60s" }, "not '60s'"],
    ["waitForParent", null, "waitForParent() takes an object of options, not null"],
    ["waitForParent", { signal: {} }, 'the option "signal" must be an AbortSignal, not {}'],
  ] as const;
  const calls = cases.map(([method, options]) => [method, options]);
  const service = Service.start("calls-with-wrong-options.js", { settings: { calls } });
  await service.until("accepting");
  const called = service.lines.filter(({ event }) => event === "called");
  expect(called).toMatchObject(
    cases.map(([, , message]) => ({
      code: "ERR_OPTION",
      state: "ready",
      message: expect.stringContaining(message) as string,
    })),
  );
  expect(service.lines.filter(({ event }) => event === "upgrading")).toEqual([]);
  expect(await service.upgrade()).toMatchObject({ generation: 1 });
});
