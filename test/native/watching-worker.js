// Reports every message on its descriptor; holds its watcher until it is terminated.
import { parentPort, workerData } from "node:worker_threads";
import { native } from "./addon.js";

const buffer = Buffer.alloc(64);
const watcher = new native.Watcher(workerData, () => {
  const { size } = native.receive(workerData, buffer);
  parentPort.postMessage(buffer.toString("latin1", 0, size), []);
});
watcher.watch(1);
parentPort.postMessage("watching", []);
