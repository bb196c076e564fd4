// A rolling restart with node:cluster: SIGHUP starts a new worker; when it listens, the old one is disconnected as in
// the documentation of `worker.disconnect()`.
import cluster from "node:cluster";

if (cluster.isPrimary) {
  let current = cluster.fork();
  process.on("SIGHUP", () => {
    const next = cluster.fork();
    next.once("listening", () => {
      disconnect(current);
      current = next;
    });
  });
  process.once("SIGTERM", () => {
    for (const worker of Object.values(cluster.workers)) worker.process.kill("SIGKILL");
    process.exit();
  });
} else {
  const { server, shutdown } = await import("./app.js");
  server.listen(process.env.PORT, "127.0.0.1");
  process.on("message", (message) => {
    if (message === "shutdown") shutdown();
  });
}

function disconnect(worker) {
  worker.send("shutdown");
  worker.disconnect();
  const killer = setTimeout(() => worker.kill(), 2_000);
  worker.once("disconnect", () => clearTimeout(killer));
}
