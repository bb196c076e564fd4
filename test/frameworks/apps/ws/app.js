import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { WebSocketServer } from "ws";

export const server = createServer(async (request, response) => {
  const word = request.method === "POST" ? await text(request) : "hello";
  response.end(`${word} from ${process.pid}`);
});
export const wss = new WebSocketServer({ server });

wss.on("connection", (ws) => {
  ws.on("message", (word) => ws.send(`${word} from ${process.pid}`));
});
