import { createServer, type IncomingMessage } from "node:http";
import { Upgrader } from "handover/testing";
import type { Upgrader as RealUpgrader } from "handover";
import { webSockets, type HandedOver } from "handover/ws";
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
  wss.on("connection", (_, request: IncomingMessage & { handover?: HandedOver }) => {
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
