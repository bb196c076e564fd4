// Upgrades a service again and again under load:
// `npm run soak -- --upgrades 100 --clients 200 --sockets 500 --json`. Prints
// one line, and exits with 1 if any client saw a failure, a close or a wrong answer.
import { parseArgs } from "node:util";
import { HttpClients } from "./soak/http-client.js";
import { Service } from "./soak/service.js";
import { WebSocketClients } from "./soak/websocket-client.js";

const { values } = parseArgs({
  options: {
    upgrades: { type: "string", default: "100" },
    clients: { type: "string", default: "200" },
    sockets: { type: "string", default: "500" },
    json: { type: "boolean", default: false },
  },
});
const [upgrades, clients, sockets] = [values.upgrades, values.clients, values.sockets].map((value) => {
  if (!/^[1-9]\d{0,4}$/.test(value)) throw new Error(`not a number from 1 to 99999: ${value}`);
  return Number(value);
});

const start = performance.now();
const service = await Service.start({ probation: 1, drainTimeout: 10_000 });
const { port } = service.newest;
const kinds = [new HttpClients(port, clients), new WebSocketClients(port, sockets)];
await Promise.all(kinds.map(({ begun }) => begun));
const times = [await service.upgrade()];
const first = service.belongings();
while (times.length < upgrades && !isFailed()) times.push(await service.upgrade());
const last = service.belongings();
await Promise.all(kinds.map((kind) => kind.stop()));
await service.stop();

const summary = {
  ok: !isFailed(),
  upgrades: times.length,
  seconds: Math.round((performance.now() - start) / 1_000),
  clients,
  sockets,
  moved: service.moved,
  destroyed: service.destroyed,
  stayed: service.stayed,
  upgradeMs: spread(times),
  before: first,
  after: last,
  kinds: Object.fromEntries(kinds.map((kind) => [kind.name, describe(kind)])),
};
if (values.json) console.log(JSON.stringify(summary));
else print(summary);
if (!summary.ok) {
  for (const failure of kinds.flatMap(({ failures }) => failures).slice(0, 10)) console.error(failure);
  console.error(service.noise);
  process.exitCode = 1;
}

function isFailed() {
  return kinds.some(({ failures }) => failures.length > 0) || service.noise !== "";
}

function describe({ requests, failures, latencies }) {
  return { requests, failures: failures.length, latencyMs: spread(latencies) };
}

function spread(numbers) {
  const sorted = numbers.toSorted((a, b) => a - b);
  const at = (part) => Math.round((sorted[Math.floor(part * (sorted.length - 1))] ?? 0) * 10) / 10;
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
}

function print({ ok, seconds, moved, upgradeMs, before, after, kinds: seen }) {
  const requests = Object.entries(seen).map(
    ([name, kind]) =>
      `${kind.requests} ${name} requests, ${kind.failures} failures, p99 ${kind.latencyMs.p99} ms`,
  );
  console.log(
    `${ok ? "ok" : "FAILED"}: ${times.length} upgrades in ${seconds} s (p50 ${upgradeMs.p50} ms), ` +
      `${moved} connections moved; ${requests.join("; ")}; ` +
      `descriptors ${before.descriptors} to ${after.descriptors}, ${before.megabytes} to ${after.megabytes} MB`,
  );
}
