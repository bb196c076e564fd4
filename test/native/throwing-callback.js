// Throws from a watcher's callback, at first with and then without somebody to catch it.
import { native } from "./addon.js";

const [left, right] = native.socketpair();
let calls = 0;
const watcher = new native.Watcher(right, () => {
  calls++;
  throw new Error(`thrown by call ${calls}`);
});
watcher.watch(1);
native.send(left, Buffer.from("x"), []);
process.once("uncaughtException", (error) => console.log("caught:", error.message));
