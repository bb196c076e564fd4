import { Readable } from "node:stream";
import fastify from "fastify";
import webSocket from "@fastify/websocket";
import { events } from "../events.js";

export const app = fastify();

await app.register(webSocket);
app.get("/", async () => `hello from ${process.pid}`);
app.post("/", async (request) => `${request.body} from ${process.pid}`);
app.get("/events", (request, reply) => reply.type("text/event-stream").send(Readable.from(events())));
app.get("/socket", { websocket: true }, (socket) => {
  socket.on("message", (word) => socket.send(`${word} from ${process.pid}`));
});
