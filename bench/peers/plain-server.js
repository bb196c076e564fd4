// The server for PM2, which stops it by SIGINT, and for a stop and a start, by SIGTERM.
import { server, shutdown } from "./app.js";

server.listen(process.env.PORT, "127.0.0.1", () => process.send?.("ready"));
process.on("SIGINT", shutdown);
process.on("SIGTERM", shutdown);
