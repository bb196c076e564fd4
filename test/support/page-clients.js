// Clients of port 8080, until the end of stdin: four that make a connection for each request, and four that keep theirs.
// Prints each answer when it comes for the first time, and at the end how often it came, and what has failed since the
// first answer of all.
import { Agent, request } from "node:http";
import { setTimeout as pause } from "node:timers/promises";

const answers = {};
const failures = [];
const over = new AbortController();
process.stdin.resume().once("end", () => over.abort());

const ask = (agent) =>
  new Promise((resolve, reject) => {
    const asked = request({ host: "127.0.0.1", port: 8080, agent }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk) => (text += chunk));
      response.once("end", () => resolve(text)).once("error", reject);
    });
    asked.once("error", reject).end();
  });

async function work(agent) {
  while (!over.signal.aborted) {
    const isServed = Object.keys(answers).length > 0;
    try {
      const answer = await ask(agent);
      if (answers[answer] === undefined) console.log(JSON.stringify({ event: "answer", answer }));
      answers[answer] = (answers[answer] ?? 0) + 1;
    } catch (error) {
      if (isServed) failures.push(String(error));
    }
    // They share the processor with those that they ask.
    await pause(5);
  }
}

const agents = Array.from({ length: 8 }, (_, n) => n < 4 && new Agent({ keepAlive: true, maxSockets: 1 }));
await Promise.all(agents.map(work));
console.log(JSON.stringify({ event: "total", answers, failures }));
for (const agent of agents) if (agent) agent.destroy();
