import { AUTO, testUpgrades } from "./application.js";
import { GrpcClient } from "./grpc-client.js";
import { eventStream, httpClients, postJson, word, type Exchange } from "./http-clients.js";
import type { Askers } from "./load.js";

const say = (): Exchange => {
  const text = word();
  return postJson("/say", text, text);
};
const clients = { ...httpClients(() => ({ path: "/hello" }), say), ...eventStream() };

testUpgrades("tRPC", { directory: "trpc", args: ["server.js"], clients });
testUpgrades("tRPC, unchanged", { directory: "trpc", args: [...AUTO, "plain.js"], clients });

const callers: Askers = {
  "a channel of gRPC": (port) => new GrpcClient(port),
  "a second channel of gRPC": (port) => new GrpcClient(port),
  "new channels of gRPC": (port) => new GrpcClient(port, false),
};

testUpgrades("grpc-js by its connection injector", {
  directory: "grpc",
  args: ["server.js"],
  clients: callers,
});
testUpgrades("grpc-js, unchanged", { directory: "grpc", args: [...AUTO, "plain.js"], clients: callers });
