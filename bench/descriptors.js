// How long it takes to pass descriptors over a channel, in messages with as many as fit: send, receive and close. Both
// ends are in this process: the benchmark measures the kernel and the addon.
//
//   npm run bench:descriptors [-- --runs 20] [--json]
import { MAX_FDS, native } from "../dist/platform/native.js";
import { FLAG, readOptions, wholeNumber } from "./options.js";
import { percentile, row } from "./statistics.js";

const { runs, json } = readOptions(import.meta.url, { runs: wholeNumber(20), json: FLAG });
const counts = [1, 100, 1_000, 10_000];

const addon = native();
const [here, there] = addon.socketpair();
const head = new Uint8Array(100);
const buffer = new Uint8Array(1_000);
const fd = addon.bindInet("stream", "127.0.0.1", 0, false);

const results = counts.map((count) => {
  const times = Array.from({ length: runs }, () => pass(count));
  return { count, median: percentile(times, 50), max: percentile(times, 100) };
});
for (const one of [fd, here, there]) addon.close(one);
if (json) console.log(JSON.stringify({ runs, results }));
else print();

/** One message after another: the kernel limits descriptors that are sent and not yet received. */
function pass(count) {
  const start = performance.now();
  for (let left = count; left > 0; left -= MAX_FDS) {
    const fds = Array.from({ length: Math.min(left, MAX_FDS) }, () => fd);
    if (addon.send(here, head, fds) !== head.length) throw new Error("a message was not sent");
    const received = addon.receive(there, buffer);
    if (received.fds?.length !== fds.length) throw new Error("descriptors were lost");
    for (const one of received.fds) addon.close(one);
  }
  return performance.now() - start;
}

function print() {
  const widths = [12, 14, 14, 16];
  console.log(row(["descriptors", "median", "max", "per second"], widths));
  for (const { count, median, max } of results) {
    const perSecond = Math.round((count / median) * 1_000).toLocaleString("en");
    console.log(row([String(count), `${median.toFixed(3)} ms`, `${max.toFixed(3)} ms`, perSecond], widths));
  }
}
