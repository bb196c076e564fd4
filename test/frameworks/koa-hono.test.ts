import { AUTO, testUpgrades } from "./application.js";
import { eventStream, httpClients } from "./http-clients.js";

const clients = { ...httpClients(), ...eventStream() };

for (const directory of ["koa", "hono"]) {
  testUpgrades(directory, { directory, args: ["server.js"], clients });
  testUpgrades(`${directory}, unchanged`, { directory, args: [...AUTO, "plain.js"], clients });
}
