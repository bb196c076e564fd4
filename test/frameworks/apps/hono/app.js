import { Hono } from "hono";
import { events } from "../events.js";

export const app = new Hono();

app.get("/", (context) => context.text(`hello from ${process.pid}`));
app.post("/", async (context) => context.text(`${await context.req.text()} from ${process.pid}`));
app.get("/events", (context) =>
  context.body(ReadableStream.from(events()).pipeThrough(new TextEncoderStream()), 200, {
    "content-type": "text/event-stream",
  }),
);
