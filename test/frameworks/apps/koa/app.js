import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import Koa from "koa";
import { events } from "../events.js";

export const app = new Koa();

app.use(async (context) => {
  if (context.path === "/events") {
    context.type = "text/event-stream";
    context.body = Readable.from(events());
  } else {
    const word = context.method === "POST" ? await text(context.req) : "hello";
    context.body = `${word} from ${process.pid}`;
  }
});
