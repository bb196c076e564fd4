// A GraphQL server whose subscriptions continue over upgrades. A session of graphql-ws is opened inside of its WebSocket:
// the successor does not know it from the handshake, so it is saved, and opened there in the client's place.
import { once } from "node:events";
import { createServer } from "node:http";
import { setTimeout } from "node:timers/promises";
import { buildSchema, getOperationAST, OperationTypeNode } from "graphql";
import { useServer } from "graphql-ws/use/ws";
import { Upgrader } from "handover";
import { webSockets } from "handover/ws";
import { WebSocket, WebSocketServer } from "ws";

const upg = new Upgrader({ probation: 1_000, drainTimeout: 5_000 });

class MovingWebSocket extends WebSocket {
  /** The operations that the client has begun, by their ids. */
  operations = new Map();

  save() {
    // The last move may not be complete.
    if (this.moved !== undefined) return this.moved;
    const { acknowledged = false, connectionParams, subscriptions = {} } = this.context ?? {};
    const operations = [...this.operations].filter(([id]) => id in subscriptions);
    // It would run twice. With an error its connection stays, and is closed with 1012 late in the drain.
    if (operations.some(([, { isOnce }]) => isOnce)) throw new Error("a query or a mutation is running");
    return { acknowledged, connectionParams, operations };
  }

  restore(session) {
    if (!session.acknowledged) return;
    this.moved = session;
    // The client's next message must not be read before its session is open.
    this.pause();
    this.say({ type: "connection_init", payload: session.connectionParams });
  }

  send(data, ...rest) {
    const { type, id } = JSON.parse(data);
    const operation = this.operations.get(id);
    if (type === "next" && operation !== undefined) operation.after = operation.current;
    if (type !== "connection_ack" || this.moved === undefined) return super.send(data, ...rest);
    // The client has it already.
    const { operations } = this.moved;
    this.moved = undefined;
    this.operations = new Map(operations);
    for (const [name, { payload }] of operations) this.say({ type: "subscribe", id: name, payload });
    this.resume();
    rest.at(-1)();
  }

  /** In the client's place. */
  say(message) {
    this.emit("message", Buffer.from(JSON.stringify(message)), false);
  }
}

/** Stands for a log of numbered events, such as a stream of Redis or Kafka. An event happens every 20 ms. */
async function* ticks(_, operation) {
  for (let number = (operation.after ?? Math.floor(Date.now() / 20)) + 1; ; number++) {
    await setTimeout(Math.max(0, number * 20 - Date.now()));
    operation.current = number;
    yield { ticks: { number, generation: upg.generation } };
  }
}

const schema = buildSchema(`
  type Tick { number: Float! generation: Int! }
  type Query { slow: Int! }
  type Subscription { ticks: Tick! }
`);
async function slow() {
  console.log(`${process.pid} begins`);
  await once(upg, "draining");
  return upg.generation;
}

const server = createServer();
const wss = new WebSocketServer({ server, WebSocket: MovingWebSocket });
webSockets(upg, wss, {
  version: 1,
  save: (ws) => ws.save(),
  restore: (ws, session) => ws.restore(session),
});
useServer(
  {
    schema,
    roots: { query: { slow }, subscription: { ticks } },
    onConnect: (context) => void (context.extra.socket.context = context),
    onSubscribe({ extra }, id, payload) {
      const { operations } = extra.socket;
      if (!operations.has(id)) operations.set(id, { payload });
    },
    context({ extra }, id, _, { document, operationName }) {
      const operation = extra.socket.operations.get(id);
      operation.isOnce =
        getOperationAST(document, operationName).operation !== OperationTypeNode.SUBSCRIPTION;
      return operation;
    },
    onComplete: ({ extra }, id) => void extra.socket.operations.delete(id),
  },
  wss,
);

const { port } = await upg.listen(server, { port: process.env.PORT ?? 8080 });
await upg.ready();
console.log(`${process.pid} listens on port ${port}`);
await upg.exit;
console.log(`${process.pid} has left`);
process.exit();
