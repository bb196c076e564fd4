// One host of bench/deploy.js. At the end it tells when each of its rooms ran, on the clock that all processes share.
import { Upgrader } from "handover";
import { postgres } from "handover/postgres";

const [url, service, release, first, last] = process.argv.slice(2);
const upg = new Upgrader({
  exchange: postgres({ url, service }),
  release,
  unmanaged: "allow",
  controlSocket: false,
});
const now = () => Number(process.hrtime.bigint()) / 1e6;
const runs = [];
const rooms = upg.units("room", {
  scope: "global",
  version: 1,
  run(id, { text }, { signal }) {
    const run = { id, from: now(), to: null };
    runs.push(run);
    signal.addEventListener("abort", () => (run.to = now()));
    return { text };
  },
  freeze: (_, { text }) => ({ text }),
});
process.on("message", () => process.send({ runs }));
await upg.ready();
const text = "x".repeat(1_000);
const ids = Array.from({ length: Number(last) - Number(first) }, (_, n) => String(Number(first) + n));
await Promise.all(ids.map(async (id) => rooms.start(id, { text })));
// It has a seat when the engine has answered once: the others know it.
await rooms.start(`of ${process.pid}`, { text });
rooms.release(`of ${process.pid}`);
process.send({ isReady: true });
await upg.exit;
process.send({ runs }, () => process.exit());
