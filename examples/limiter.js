// A server with a rate limiter in memory: the count of each client survives upgrades, and no request is lost from it.
// Start it with PID_FILE=app.pid, and replace it under load with: handover upgrade --pid-file app.pid
import { createServer } from "node:http";
import { Upgrader } from "handover";

const { PORT = 8080, PID_FILE, LIMIT = 100, WINDOW = 60_000, PROBATION = 3_000 } = process.env;

const upg = new Upgrader({ pidFile: PID_FILE, probation: Number(PROBATION) });

/** How often each client has asked in this window of time. */
const counts = new Map();
/** The part of them that has moved: it still counts for a busy connection that is here. */
const given = new Map();
let current = 0;

function add(client, window, count) {
  if (window > current) {
    current = window;
    for (const map of [counts, given]) map.clear();
  }
  if (window === current) counts.set(client, (counts.get(client) ?? 0) + count);
  // The counts have moved: this request's count follows them.
  if (upg.state === "draining") moveCounts();
}

const slot = upg.slot("limiter", { version: 1, check: ({ counted }) => Array.isArray(counted) });
let isOffered = false;

// Counts that move are given away, and added by the process that takes them: the successor, or this process again if
// the successor dies.
function moveCounts() {
  if (isOffered) return;
  isOffered = true;
  void slot.initiate(() => {
    isOffered = false;
    const counted = [...counts];
    for (const [client, count] of counted) given.set(client, (given.get(client) ?? 0) + count);
    counts.clear();
    return { window: current, counted };
  });
}
upg.on("draining", moveCounts);
upg.on("rollback", () => given.clear());

const taken = new Promise((resolve) => {
  slot.subscribe(({ data: { window, counted } }) => {
    for (const [client, count] of counted) add(client, window, count);
    resolve();
  });
});
// The first requests arrive some milliseconds before the counts, and wait for them, if there is a process that sends
// them.
const prepared = upg.hasParent ? Promise.race([taken, upg.waitForParent()]) : undefined;

const server = createServer(async (request, response) => {
  await prepared;
  const client = request.socket.remoteAddress;
  add(client, Math.floor(Date.now() / WINDOW), 1);
  const count = (counts.get(client) ?? 0) + (given.get(client) ?? 0);
  response.statusCode = count > LIMIT ? 429 : 200;
  response.end(JSON.stringify({ count, generation: upg.generation }));
});

const { port } = await upg.listen(server, { port: PORT, host: "127.0.0.1" });
await upg.ready();
console.log(`${process.pid} limits on port ${port}`);
await upg.exit;
console.log(`${process.pid} has left`);
