// One end of a copy between two processes without handover, by the simplest fast means: a Unix socket whose reader
// copies each chunk into one buffer, or a file on a tmpfs that is written and read with one call each. The reader
// ends with all bytes in one buffer of its own, as the taker of a slot does.
import { randomFillSync } from "node:crypto";
import { open, unlink } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { now } from "./loop-monitor.js";

const { END, WAY, SIZE, DIRECTORY } = process.env;
const path = join(DIRECTORY, `${WAY}.sock`);
const file = join("/dev/shm", `handover-bench-${process.ppid}`);
const bytes = Buffer.allocUnsafeSlow(Number(SIZE));
const MIB = 1024 ** 2;

if (END === "reader") createServer(receive).listen(path, () => report("listening"));
else {
  for (let at = 0; at < bytes.length; at += MIB) randomFillSync(bytes, at, Math.min(MIB, bytes.length - at));
  const socket = connect(path, () => void send(socket));
}

async function send(socket) {
  report("begin");
  if (WAY === "socket") return socket.end(bytes);
  const target = await open(file, "wx", 0o600);
  for (let done = 0; done < bytes.length;) done += (await target.write(bytes, done)).bytesWritten;
  await target.close();
  return socket.end("w");
}

function receive(socket) {
  if (WAY === "file") return void socket.once("data", () => void read());
  let got = 0;
  socket.on("data", (chunk) => {
    bytes.set(chunk, got);
    got += chunk.length;
    if (got === bytes.length) end();
  });
  return undefined;
}

async function read() {
  const source = await open(file);
  for (let done = 0; done < bytes.length;) {
    done += (await source.read(bytes, done, bytes.length - done, done)).bytesRead;
  }
  await unlink(file);
  end();
}

function end() {
  report("end");
  process.exit();
}

function report(what) {
  console.log(JSON.stringify({ what, at: now() }));
}
