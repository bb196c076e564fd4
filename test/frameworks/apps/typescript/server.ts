import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { Upgrader } from "handover";

const upg: Upgrader = new Upgrader();
const server = createServer(async (request, response) => {
  const word: string = request.method === "POST" ? await text(request) : "hello";
  response.end(`${word} from ${process.pid}`);
});
await upg.listen(server, { port: Number(process.env["PORT"]) });
await upg.ready();
await upg.exit;
