import { events } from "../../../events.js";

export const dynamic = "force-dynamic";

export function GET() {
  const body = ReadableStream.from(events()).pipeThrough(new TextEncoderStream());
  return new Response(body, { headers: { "content-type": "text/event-stream" } });
}
