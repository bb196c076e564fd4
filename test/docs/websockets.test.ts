import { once } from "node:events";
import { expect, test } from "vitest";
import { io } from "socket.io-client";
import { WebSocket } from "ws";
import { membersOf } from "../support/declarations.js";
import { DocumentedProgram } from "../support/documented.js";
import { Page } from "../support/page.js";

const page = Page.open("websockets");
const program = page.block("js", "// server.js");
const rooms = page.block("js", "// rooms.js");

test("the connections of docs/websockets.md move, and their client sees no close", async () => {
  const service = await DocumentedProgram.start(program);
  const client = new WebSocket(`ws://127.0.0.1:${service.port}`);
  const next = async (): Promise<string> => String(((await once(client, "message")) as [Buffer])[0]);
  expect(await next()).toBe("welcome");
  client.send("a");
  expect(await next()).toBe("message 1, generation 0");
  await service.upgrade();
  client.send("b");
  expect(await next()).toBe("message 2, generation 1");
  client.close();
  await once(client, "close");
  expect(await service.stop()).toBe("");
});

test("docs/websockets.md has a row for every option of webSockets()", () => {
  expect(page.rowNames().toSorted()).toEqual(membersOf("WebSocketOptions").toSorted());
});

test("a client of the program with socket.io of docs/websockets.md stays connected", async () => {
  const service = await DocumentedProgram.start(rooms);
  const client = io(`http://127.0.0.1:${service.port}`, { transports: ["websocket"] });
  let connections = 0;
  client.on("connect", () => connections++);
  expect(await client.emitWithAck("add")).toEqual({ count: 1, generation: 0 });
  await service.upgrade();
  let answer;
  do answer = (await client.emitWithAck("add")) as { count: number; generation: number };
  while (answer.generation === 0);
  expect([answer.count > 1, connections]).toEqual([true, 1]);
  client.disconnect();
  expect(await service.stop()).toBe("");
});
