// A worker of a queue, without a socket. The file JOBS stands for the queue: a line for each job that is done.
import { appendFile, readFile } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";
import { Upgrader } from "handover";

const upg = new Upgrader();
let isWorking;
let worked;

async function work() {
  while (isWorking) {
    const done = await readFile(process.env.JOBS, "utf8");
    await setTimeout(20); // the job
    await appendFile(process.env.JOBS, `${done.split("\n").length} by ${process.pid}\n`);
  }
}

await upg.role("worker", {
  acquire() {
    isWorking = true;
    worked = work();
  },
  async release() {
    isWorking = false;
    await worked; // the job that has begun
  },
});
await upg.ready();
await upg.exit;
