import { createServer, type RequestListener } from "node:http";
import { text } from "node:stream/consumers";

const answer: RequestListener = async (request, response) => {
  const word: string = request.method === "POST" ? await text(request) : "hello";
  response.end(`${word} from ${process.pid}`);
};
createServer(answer).listen(process.env["PORT"]);
