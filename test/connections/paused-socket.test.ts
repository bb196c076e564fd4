import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { PausedSocket } from "../../dist/connections/paused-socket.js";

/** Both ends of a connection. */
async function pair(): Promise<{ near: Socket; far: Socket }> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const far = connect((server.address() as AddressInfo).port, "127.0.0.1");
  const [near] = (await once(server, "connection")) as [Socket];
  onTestFinished(() => {
    server.close();
    near.destroy();
    far.destroy();
  });
  return { near, far };
}

function unexpected(member: string, error: unknown): void {
  throw new Error(`a ${member} failed`, { cause: error });
}

test("a paused socket sends what was written to it when it resumes", async () => {
  const { near, far } = await pair();
  const still = new PausedSocket(near, unexpected);
  near.write("a");
  near.write("b", () => near.end("c"));
  expect(near.bytesWritten).toBe(0);
  still.resume();
  expect(await far.setEncoding("utf8").toArray()).toEqual(["abc"]);
});

test("a paused socket that moves sends nothing more, and reports that to its writer", async () => {
  const { near, far } = await pair();
  const still = new PausedSocket(near, unexpected);
  const told = new Promise((resolve) => near.write("a", resolve));
  still.discard();
  expect(await told).toMatchObject({ code: "ERR_STREAM_DESTROYED" });
  expect(await far.toArray()).toEqual([]);
});

test("a paused socket does not time out, and does so after it has resumed", async () => {
  const { near } = await pair();
  const timeouts: boolean[] = [];
  let isPaused = true;
  near.on("timeout", () => timeouts.push(isPaused)).setTimeout(20);
  const still = new PausedSocket(near, unexpected);
  // Node's timers of one length end in the order in which they began.
  await new Promise((resolve) => setTimeout(resolve, 20));
  const timeout = once(near, "timeout");
  isPaused = false;
  still.resume();
  await timeout;
  expect(timeouts).toEqual([false]);
});

test.each([undefined, "latin1", "utf8"] as const)(
  "a paused socket gives up the bytes that it has not consumed, and takes them back (encoding %s)",
  async (encoding) => {
    const { near, far } = await pair();
    if (encoding !== undefined) near.setEncoding(encoding);
    near.pause();
    const bytes = Buffer.from("čaj");
    far.write(bytes);
    while (near.readableLength === 0) await new Promise(setImmediate);
    const heard: unknown[] = [];
    near.on("data", (chunk) => heard.push(chunk));
    const still = new PausedSocket(near, unexpected);
    expect(heard).toEqual([]);
    expect(Buffer.from(still.unread!)).toEqual(bytes);
    still.resume();
    const data = once(near, "data");
    near.resume();
    await data;
    expect(heard).toEqual([encoding === undefined ? bytes : bytes.toString(encoding)]);
  },
);
