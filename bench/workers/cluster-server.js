// WORKERS workers under node:cluster, which starts one again that dies. SIGHUP replaces them one after the other, as
// ../peers/cluster-server.js does with its only one.
import cluster from "node:cluster";
import { once } from "node:events";

if (cluster.isPrimary) {
  const leaving = new Set();
  cluster.on("exit", (worker) => {
    if (!leaving.delete(worker)) cluster.fork();
  });
  for (let n = 0; n < Number(process.env.WORKERS); n++) cluster.fork();
  process.on("SIGHUP", () => void replaceAll());

  async function replaceAll() {
    for (const worker of Object.values(cluster.workers)) {
      await once(cluster.fork(), "listening");
      leaving.add(worker);
      worker.send("shutdown");
      worker.disconnect();
      const killer = setTimeout(() => worker.kill(), 2_000);
      worker.once("exit", () => clearTimeout(killer));
    }
  }
} else {
  const { server, shutdown } = await import("../peers/app.js");
  server.listen(process.env.PORT, "127.0.0.1");
  process.on("message", (message) => {
    if (message === "shutdown") shutdown();
  });
}
