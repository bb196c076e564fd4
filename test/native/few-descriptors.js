// Receives 40 descriptors where `ulimit -n` leaves room for a few.
import { native } from "./addon.js";

const [left, right] = native.socketpair();
const sent = native.send(
  left,
  Buffer.from("x"),
  Array.from({ length: 40 }, () => left),
);
const received = native.receive(right, Buffer.alloc(8));
const complete = received.fds.length === 40;
console.log(JSON.stringify({ sent, complete, fdsLost: received.fdsLost }));
