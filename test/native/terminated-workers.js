// Terminates workers while their watchers call back all the time.
import { once } from "node:events";
import { isMainThread, parentPort, Worker } from "node:worker_threads";
import { native } from "./addon.js";

if (isMainThread) {
  for (let i = 0; i < 30; i++) {
    const worker = new Worker(new URL(import.meta.url));
    await once(worker, "message");
    await worker.terminate();
  }
  console.log("all terminated");
} else {
  const [left, right] = native.socketpair();
  const buffer = Buffer.alloc(8);
  const bounce = () => {
    for (let i = 0; i < 100; i++) {
      native.send(left, Buffer.from("x"), []);
      native.receive(right, buffer);
    }
    native.send(left, Buffer.from("x"), []);
    parentPort.postMessage("busy", []);
  };
  new native.Watcher(right, bounce).watch(1);
  bounce();
}
