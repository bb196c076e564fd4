// State with Maps, Sets and Dates, which JSON would lose: a codec encodes it with msgpackr. Start it with
// PID_FILE=app.pid, and upgrade it with: handover upgrade --pid-file app.pid
import { createServer } from "node:http";
import { Upgrader } from "handover";
import { Packr } from "msgpackr";

const { PORT = 8080, PID_FILE, PROBATION = 3_000 } = process.env;

const upg = new Upgrader({ pidFile: PID_FILE, probation: Number(PROBATION) });

// Two releases may have different versions of a codec. The name identifies the format of the bytes: state in another
// format is refused, and stays with its owner.
const packr = new Packr({ structuredClone: true });
const codec = {
  name: "msgpackr-structured-1",
  encode: (data) => packr.pack(data),
  decode: (bytes) => packr.unpack(bytes),
};

/** Who has asked for a page, and when it was asked for first. */
let pages = new Map();

const slot = upg.slot("pages", { version: 1, codec, check: (data) => data instanceof Map });
slot.subscribe(({ data }) => {
  // The first requests may have arrived before the state.
  pages = new Map([...pages, ...data]);
});
// A view: it is called when the successor is ready. See limiter.js for state that must not lose a later update.
void slot.initiate(() => pages);

const server = createServer(({ url, headers }, response) => {
  const page = pages.get(url) ?? { since: new Date(), agents: new Set() };
  pages.set(url, page);
  page.agents.add(headers["user-agent"]);
  response.end(`${page.since.toISOString()} ${[...page.agents].join(" ")}\n`);
});

const { port } = await upg.listen(server, { port: PORT, host: "127.0.0.1" });
await upg.ready();
console.log(`${process.pid} listens on port ${port}`);
await upg.exit;
console.log(`${process.pid} has left`);
