// Clients that ask a server on this machine without a pause, half of them on a connection that they keep. A number on
// stdin asks for a line as soon as so many more answers have come; the end of stdin ends it, with the whole count.
import { Agent, request } from "node:http";
import { createInterface } from "node:readline";
import { setImmediate as turn } from "node:timers/promises";

const [port, clients] = process.argv.slice(2).map(Number);
const count = { answers: 0, pids: {}, failures: {} };
const over = new AbortController();
const waiting = new Set();

async function run(agent) {
  while (!over.signal.aborted) {
    try {
      const pid = await ask(agent);
      count.answers++;
      count.pids[pid] = (count.pids[pid] ?? 0) + 1;
    } catch ({ code, message }) {
      count.failures[code ?? message] = (count.failures[code ?? message] ?? 0) + 1;
      await turn();
    }
    for (const look of waiting) look();
  }
}

function ask(agent) {
  return new Promise((resolve, reject) => {
    const asked = request({ port, host: "127.0.0.1", agent }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk) => (text += chunk));
      response.once("end", () => resolve(text)).once("error", reject);
    });
    asked.once("error", reject).end();
  });
}

function tellAfter(more) {
  const goal = count.answers + more;
  const look = () => {
    if (count.answers < goal) return;
    waiting.delete(look);
    console.log(JSON.stringify({ answered: count.answers }));
  };
  waiting.add(look);
  look();
}

const agents = Array.from(
  { length: clients },
  (_, n) => n % 2 === 0 && new Agent({ keepAlive: true, maxSockets: 1 }),
);
const running = agents.map(run);
for await (const line of createInterface({ input: process.stdin })) tellAfter(Number(line));
over.abort();
await Promise.all(running);
for (const agent of agents) if (agent) agent.destroy();
console.log(JSON.stringify(count));
