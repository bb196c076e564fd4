// Leaves a watcher behind that does not hold the event loop.
import { native } from "./addon.js";

const [, right] = native.socketpair();
const watcher = new native.Watcher(right, () => {});
watcher.watch(1);
watcher.unref();
process.once("beforeExit", () => console.log("nothing left to wait for"));
