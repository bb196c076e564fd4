import { once } from "node:events";
import { connect, createServer, Socket, type AddressInfo } from "node:net";
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
  const still = new PausedSocket(near);
  near.write("a");
  near.write("b", () => near.end("c"));
  expect(near.bytesWritten).toBe(0);
  still.resume(unexpected);
  expect(await far.setEncoding("utf8").toArray()).toEqual(["abc"]);
});

test("a paused socket that moves sends nothing more, and reports that to its writer", async () => {
  const { near, far } = await pair();
  const still = new PausedSocket(near);
  const told = new Promise((resolve) => near.write("a", resolve));
  still.discard(unexpected);
  expect(await told).toMatchObject({ code: "ERR_STREAM_DESTROYED" });
  expect(await far.toArray()).toEqual([]);
});

test("a function that was taken from a paused socket writes when it has resumed", async () => {
  const { near, far } = await pair();
  const still = new PausedSocket(near);
  const write: (this: Socket, chunk: string) => boolean = Reflect.get(near, "write");
  const wrapped: unknown[] = [];
  Object.assign(near, { write: (chunk: string) => (wrapped.push(chunk), write.call(near, chunk)) });
  near.write("a");
  expect(near.bytesWritten).toBe(0);
  still.resume(unexpected);
  near.end("b");
  expect(await far.setEncoding("utf8").toArray()).toEqual(["ab"]);
  // The one that waited is made by the member of that time.
  expect(wrapped).toEqual(["a", "a"]);
});

test("a socket has the members that a program has given it when it has resumed", async () => {
  const { near, far } = await pair();
  const wrapped: unknown[] = [];
  const own = {
    write: (chunk: string) => (wrapped.push(chunk), Socket.prototype.write.call(near, chunk)),
    emit: (...args: Parameters<Socket["emit"]>) => Socket.prototype.emit.apply(near, args),
  };
  Object.assign(near, own);
  near.pause();
  far.write("unread");
  while (near.readableLength === 0) await new Promise(setImmediate);
  const still = new PausedSocket(near);
  near.write("a");
  expect(wrapped).toEqual([]);
  still.resume(unexpected);
  near.end();
  expect(await far.setEncoding("utf8").toArray()).toEqual(["a"]);
  expect(wrapped).toEqual(["a"]);
  expect(near).toMatchObject(own);
  expect(Object.getPrototypeOf(near)).toBe(Socket.prototype);
});

test("what a listener of its bytes writes follows what waited when a paused socket resumes", async () => {
  const { near, far } = await pair();
  near.pause();
  far.write("unread");
  while (near.readableLength === 0) await new Promise(setImmediate);
  near.on("data", () => near.end("b")).resume();
  const still = new PausedSocket(near);
  near.write("a");
  still.resume(unexpected);
  expect(await far.setEncoding("utf8").toArray()).toEqual(["ab"]);
});

test("a paused socket gets no members of its own", async () => {
  const { near } = await pair();
  const members = Reflect.ownKeys(near);
  new PausedSocket(near).leave();
  expect(Reflect.ownKeys(near)).toEqual(members);
  expect(near).toBeInstanceOf(Socket);
});

test("a paused socket does not time out, and does so after it has resumed", async () => {
  const { near } = await pair();
  const timeouts: boolean[] = [];
  let isPaused = true;
  near.on("timeout", () => timeouts.push(isPaused)).setTimeout(20);
  const still = new PausedSocket(near);
  // Node's timers of one length end in the order in which they began.
  await new Promise((resolve) => setTimeout(resolve, 20));
  const timeout = once(near, "timeout");
  isPaused = false;
  still.resume(unexpected);
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
    const still = new PausedSocket(near);
    expect(heard).toEqual([]);
    expect(Buffer.from(still.unread!)).toEqual(bytes);
    still.resume(unexpected);
    const data = once(near, "data");
    near.resume();
    await data;
    expect(heard).toEqual([encoding === undefined ? bytes : bytes.toString(encoding)]);
  },
);
