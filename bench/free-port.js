import { once } from "node:events";
import { createServer } from "node:net";

/** Below the range for clients: a client could take the port between a stop and a start. */
export async function freePort() {
  for (;;) {
    const server = createServer();
    try {
      server.listen(20_000 + Math.floor(Math.random() * 10_000), "127.0.0.1");
      await once(server, "listening");
      const { port } = server.address();
      server.close();
      return port;
    } catch (error) {
      if (error.code !== "EADDRINUSE") throw error;
    }
  }
}
