import { once } from "node:events";
import { request, type ClientRequest, type IncomingMessage } from "node:http";
import type { Service } from "./service.js";

/** A request to `echoes-body.js` that has begun, and lasts until it is ended. */
export async function openRequest(service: Service): Promise<ClientRequest> {
  const { address } = await service.until("listening");
  const { port } = address as { port: number };
  const sent = request({ host: "127.0.0.1", port, method: "POST", agent: false });
  sent.write("begun");
  const [response] = (await once(sent, "response")) as [IncomingMessage];
  // Whether it ends or is cut is not what the tests that use it are about.
  response.on("error", () => {});
  sent.on("error", () => {});
  await once(response, "data");
  response.resume();
  return sent;
}
