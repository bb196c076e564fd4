import { events } from "../../events.js";

export default eventHandler((event) => {
  setHeader(event, "content-type", "text/event-stream");
  return sendStream(event, ReadableStream.from(events()).pipeThrough(new TextEncoderStream()));
});
