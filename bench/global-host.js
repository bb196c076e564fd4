// One host of bench/global.js: it has the units, or takes them.
import { Upgrader } from "handover";

/** Units of which it tells at a time. */
const STEP = 1_000;

const [engine, endpoint, service, role, count] = process.argv.slice(2);
const upg = new Upgrader({
  exchange: await exchange(),
  unmanaged: "allow",
  controlSocket: false,
  drainTimeout: 600_000,
});
const now = () => Number(process.hrtime.bigint()) / 1e6;
const gaps = [];
const units = upg.units("unit", {
  scope: "global",
  version: 1,
  drain: { timeout: 500_000 },
  run(_, state) {
    if (state.at !== undefined && gaps.push(now() - state.at) % STEP === 0) tell({ begun: STEP });
    return { text: state.text };
  },
  freeze: (_, { text }) => ({ text, at: now() }),
});
await upg.ready();
if (role === "owner") {
  const text = "x".repeat(1_000);
  for (let n = 0; n < Number(count); n += STEP) {
    const some = Array.from({ length: Math.min(STEP, Number(count) - n) }, (_, index) => String(n + index));
    await Promise.all(some.map(async (id) => units.start(id, { text })));
    tell({ begun: some.length });
  }
}
tell({ isReady: true });
if (role === "owner") {
  upg.once("exit", ({ units: reports }) => tell({ report: reports.unit }));
  await upg.exit;
} else {
  process.once("SIGTERM", () => process.send({ gaps }, () => process.exit()));
}

async function exchange() {
  if (engine === "etcd") {
    const { etcd } = await import("handover/etcd");
    return etcd({ endpoints: [endpoint], service });
  }
  const { postgres } = await import("handover/postgres");
  return postgres({ url: endpoint, service });
}

function tell(message) {
  process.send(message);
}
