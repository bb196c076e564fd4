import { once } from "node:events";
import { createServer } from "node:http";
import { connect, type AddressInfo, type Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { IdleList } from "../../dist/connections/idle-list.js";

const REQUEST = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

// Node's list of the others is asked for in each turn, if that is short, or else its list of the idle ones now and then.
test.each([0, 150])("a connection is idle between two requests, beside %i that are not", async (others) => {
  const server = createServer((_, response) => response.end()).listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  const open = async (): Promise<{ near: Socket; far: Socket }> => {
    const far = connect((server.address() as AddressInfo).port, "127.0.0.1");
    const [near] = (await once(server, "connection")) as [Socket];
    onTestFinished(() => void far.destroy());
    return { near, far };
  };
  const list = new IdleList(server);
  const isIdle = (socket: Socket): boolean => list.has(socket, socket.bytesRead);
  for (let n = 0; n < others; n++) await open();
  const { near, far } = await open();
  const { near: used, far: client } = await open();
  for (const one of [far, client]) {
    one.write(REQUEST);
    await once(one, "data");
  }
  expect([isIdle(near), isIdle(used)]).toEqual([true, true]);
  client.write(REQUEST.slice(0, 5));
  const before = used.bytesRead;
  while (used.bytesRead === before) await new Promise(setImmediate);
  expect([isIdle(near), isIdle(used)]).toEqual([true, false]);
});

test("a connection that another server reads is not idle", async () => {
  const reads = createServer((_, response) => response.end()).listen(0, "127.0.0.1");
  const accepts = createServer().listen(0, "127.0.0.1");
  await Promise.all([once(reads, "listening"), once(accepts, "listening")]);
  onTestFinished(() => void [reads.close(), accepts.close()]);
  accepts.removeAllListeners("connection").on("connection", (socket) => reads.emit("connection", socket));
  const accepted = once(accepts, "connection");
  const far = connect((accepts.address() as AddressInfo).port, "127.0.0.1");
  onTestFinished(() => void far.destroy());
  far.write(REQUEST);
  await once(far, "data");
  const [near] = (await accepted) as [Socket];
  expect(new IdleList(accepts).has(near, near.bytesRead)).toBe(false);
  expect(new IdleList(reads).has(near, near.bytesRead)).toBe(true);
});
