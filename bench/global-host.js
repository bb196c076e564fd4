// One host of bench/global.js: it has the units, or takes them.
import { Upgrader } from "handover";
import { postgres } from "handover/postgres";

const [url, service, role, count] = process.argv.slice(2);
const upg = new Upgrader({
  exchange: postgres({ url, service }),
  controlSocket: false,
  drainTimeout: 120_000,
});
const now = () => Number(process.hrtime.bigint()) / 1e6;
const gaps = [];
const units = upg.units("unit", {
  scope: "global",
  version: 1,
  drain: { timeout: 100_000 },
  run(_, state) {
    if (state.at !== undefined) gaps.push(now() - state.at);
    return { text: state.text };
  },
  freeze: (_, { text }) => ({ text, at: now() }),
});
await upg.ready();
if (role === "owner") {
  const text = "x".repeat(1_000);
  for (let n = 0; n < Number(count); n += 2_000) {
    const some = Array.from({ length: Math.min(2_000, Number(count) - n) }, (_, index) => String(n + index));
    await Promise.all(some.map(async (id) => units.start(id, { text })));
  }
}
process.send("ready");
if (role === "owner") {
  upg.once("exit", ({ units: reports }) => process.send(reports.unit));
  await upg.exit;
} else {
  process.once("SIGTERM", () => process.send({ gaps }, () => process.exit()));
}
