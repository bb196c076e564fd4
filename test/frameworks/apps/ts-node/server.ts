import { createServer, type RequestListener } from "node:http";
import { text } from "node:stream/consumers";
import { Upgrader } from "handover";

const answer: RequestListener = async (request, response) => {
  const word: string = request.method === "POST" ? await text(request) : "hello";
  response.end(`${word} from ${process.pid}`);
};

async function main(): Promise<void> {
  const upg = new Upgrader();
  await upg.listen(createServer(answer), { port: Number(process.env["PORT"]) });
  await upg.ready();
  await upg.exit;
}

void main();
