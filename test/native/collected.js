// Forgets two watchers: one that waits, and an idle one whose callback refers back to it.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { native } from "./addon.js";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc");
const [left, right] = native.socketpair();

function makeWaiting() {
  const watcher = new native.Watcher(right, () => {
    console.log("the waiting one is called");
    watcher.close();
  });
  watcher.watch(1);
}

function makeIdle() {
  const watcher = new native.Watcher(left, () => watcher.close());
  return new WeakRef(watcher);
}

makeWaiting();
const idle = makeIdle();
for (let turn = 0; turn < 1000 && idle.deref(); turn++) {
  await new Promise((resolve) => setImmediate(resolve));
  collect();
}
console.log(idle.deref() ? "the idle one is still there" : "the idle one is gone");
native.send(left, Buffer.from("x"), []);
