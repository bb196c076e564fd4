import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { Server } from "socket.io";

export const server = createServer(async (request, response) => {
  const word = request.method === "POST" ? await text(request) : "hello";
  response.end(`${word} from ${process.pid}`);
});
export const io = new Server(server, { transports: ["websocket"] });

io.on("connection", (socket) => {
  socket.on("say", (word, answer) => answer(`${word} from ${process.pid}`));
});
