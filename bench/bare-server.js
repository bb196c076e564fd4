// The program of start.js without handover: it reports when it accepts.
import { createServer } from "node:http";

if (process.env.HEAVY) await import("./heavy-imports.js");
const server = createServer((_, response) => response.end("ok"));
server.listen({ port: 0, host: "127.0.0.1" }, () => console.log(JSON.stringify({ what: "accepts" })));
