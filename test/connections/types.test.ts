import { createServer, type IncomingMessage } from "node:http";
import { Upgrader } from "handover/testing";
import type { Upgrader as RealUpgrader } from "handover";
import { webSockets, type Handover } from "handover/ws";
import { expect, expectTypeOf, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";

class Player extends WebSocket {
  score = 0;
}

test("webSockets() infers the class of a server's WebSockets", async () => {
  const upg = new Upgrader();
  const wss = new WebSocketServer({ server: createServer(), WebSocket: Player });
  webSockets(upg, wss, {
    version: 1,
    save: (ws) => {
      expectTypeOf(ws).toEqualTypeOf<Player>();
      return { score: ws.score };
    },
    restore: (ws, state) => {
      expectTypeOf(ws).toEqualTypeOf<Player>();
      ws.score = (state as { score: number }).score;
    },
  });
  wss.on("connection", (_, request: IncomingMessage & { handover?: Handover }) => {
    expectTypeOf(request.handover?.state).toEqualTypeOf<unknown>();
  });
  await upg.stop();
  expect(upg.state).toBe("exited");
});

test("webSockets() accepts plain servers, and either Upgrader", async () => {
  const wss = new WebSocketServer({ noServer: true });
  const register = (upg: RealUpgrader | Upgrader): void => webSockets(upg, wss, { version: 1 });
  const upg = new Upgrader();
  register(upg);
  // @ts-expect-error: the version is what a successor compares
  expect(() => webSockets(upg, wss, {})).toThrow(/version/);
  await upg.stop();
});

test.each([
  ["no WebSocketServer", {}, { version: 1 }, /"wss" must be a WebSocketServer of the package ws, not \{\}/],
  ["no options", undefined, undefined, /webSockets\(\) takes an object of options/],
  ["an unknown option", undefined, { version: 1, load: 1 }, /does not know the option "load"/],
  ["a save that is no function", undefined, { version: 1, save: 1 }, /"save" must be a function/],
])(
  "webSockets() refuses %s",
  async (_, wss = new WebSocketServer({ noServer: true }), options, message) => {
    const upg = new Upgrader();
    const call = (): void => webSockets(upg, wss as WebSocketServer, options as { version: number });
    expect(call).toThrow(
      expect.objectContaining({ code: "ERR_OPTION", message: expect.stringMatching(message) }),
    );
    await upg.stop();
  },
);
