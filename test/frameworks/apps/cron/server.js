// A program whose work is done by node-cron. It writes a line into the file JOBS for each time.
import { appendFileSync } from "node:fs";
import { Upgrader } from "handover";
import { createTask } from "node-cron";

const upg = new Upgrader();
const task = createTask("* * * * * *", ({ date }) => {
  appendFileSync(process.env.JOBS, `${date.toISOString().slice(0, 19)} by ${process.pid}\n`);
});

await upg.role("cron", { acquire: () => task.start(), release: () => task.stop() });
await upg.ready();
await upg.exit;
await task.destroy();
