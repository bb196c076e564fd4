import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { Load } from "../../dist/cli/demo/load.js";
import { renderTable } from "../../dist/cli/demo/table.js";
import { Tally } from "../../dist/cli/demo/tally.js";

test.each<[string, string, RequestListener]>([
  ["a new connection is answered by an old generation", "fresh STALE", answer({ generation: 1 })],
  ["a body is not what it should be", "keep-alive WRONG_BODY", answer({ body: "nonsense" })],
  ["a stream is not whole", "streaming WRONG_BODY", answer({ body: "0\n1\n" })],
  ["the status is an error", "slow HTTP_503", answer({ status: 503 })],
  ["a connection is reset", "keep-alive ECONNRESET", (request) => request.socket.resetAndDestroy()],
  [
    "a response is cut off",
    "streaming ECONNRESET",
    (request, response) => response.write("0\n", () => request.socket.resetAndDestroy()),
  ],
])("the demo notices if %s", async (_, named, listener) => {
  const { summary, table } = await run(listener);
  const [kind, code] = named.split(" ");
  const failure = summary.failures.find((one) => one.kind === kind && one.code === code);
  expect(failure?.count).toBeGreaterThan(0);
  expect(summary.failed).toBeGreaterThan(0);
  expect(table).toContain(`failed: ${named} × ${failure!.count}`);
});

test("the demo notices if no process listens", async () => {
  const server = await serve(() => {});
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  const { summary } = await runAt(port);
  expect(new Set(summary.failures.map(({ code }) => code))).toEqual(new Set(["ECONNREFUSED"]));
});

test("the demo counts closed connections, and takes them for no failure", async () => {
  const { summary } = await run((request, response) => {
    response.setHeader("connection", "close");
    faultless(request, response);
  });
  expect(summary.failures).toEqual([]);
  expect(summary.kinds["keep-alive"].closed).toBeGreaterThan(0);
});

async function run(listener: RequestListener): ReturnType<typeof runAt> {
  return runAt(((await serve(listener)).address() as AddressInfo).port);
}

/** Every client asks at least once. */
async function runAt(port: number) {
  const tally = new Tally();
  const load = new Load({ url: "", port, generation: 2, upgrade: neverUpgraded }, tally);
  await tally.untilBusy(new AbortController().signal);
  await load.finish();
  load.abort();
  tally.addUpgrade(1);
  const summary = tally.summary();
  return { summary, table: renderTable(summary) };
}

async function neverUpgraded(): Promise<never> {
  throw new Error("it is not upgraded here");
}

async function serve(listener: RequestListener): Promise<Server> {
  const server = createServer(listener).listen(0, "127.0.0.1");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  await once(server, "listening");
  return server;
}

function answer({ status = 200, generation = 2, body = "" }): RequestListener {
  return (_, response) => response.writeHead(status, { "x-generation": generation }).end(body);
}

/** As the demo's own server, but without taking its time. */
const faultless: RequestListener = (request, response) => {
  response.setHeader("x-generation", 2);
  if (request.method === "POST") request.pipe(response);
  else response.end(request.url === "/stream" ? "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n" : "");
};
