const { Readable } = require("node:stream");
const express = require("express4");

const app = express();

app.get("/", (request, response) => response.send(`hello from ${process.pid}`));
app.post("/", express.text(), (request, response) => response.send(`${request.body} from ${process.pid}`));
app.get("/events", async (request, response) => {
  const { events } = await import("../events.js");
  response.type("text/event-stream");
  Readable.from(events()).pipe(response);
});

module.exports = { app };
