import { Readable } from "node:stream";
import express from "express";
import { events } from "../events.js";

export const app = express();

app.get("/", (request, response) => response.send(`hello from ${process.pid}`));
app.post("/", express.text(), (request, response) => response.send(`${request.body} from ${process.pid}`));
app.get("/events", (request, response) => {
  response.type("text/event-stream");
  Readable.from(events()).pipe(response);
});
