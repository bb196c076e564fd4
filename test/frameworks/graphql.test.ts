import { AUTO, testUpgrades } from "./application.js";
import { graphqlSubscription } from "./graphql-ws-client.js";
import { eventStream, httpClients, postJson, word, type Exchange } from "./http-clients.js";

const query = (text: string): string => `/graphql?query=${encodeURIComponent(text)}`;
const hello = (): Exchange => ({
  path: query("{ hello }"),
  headers: { accept: "application/json", "apollo-require-preflight": "true" },
});
const say = (path: string) => (): Exchange => {
  const text = word();
  const mutation = "mutation ($word: String!) { say(word: $word) }";
  return postJson(path, { query: mutation, variables: { word: text } }, text);
};
const clients = httpClients(hello, say("/graphql"));
const withStream = { ...clients, ...eventStream(query("subscription { events }")) };

testUpgrades("graphql-yoga", { directory: "yoga", args: ["server.js"], clients: withStream });
testUpgrades("graphql-yoga, unchanged", {
  directory: "yoga",
  args: [...AUTO, "plain.js"],
  clients: withStream,
});
testUpgrades("apollo as a middleware", { directory: "apollo", args: ["server.js"], clients });
testUpgrades("apollo as a middleware, unchanged", {
  directory: "apollo",
  args: [...AUTO, "plain.js"],
  clients,
});
testUpgrades("apollo standalone", {
  directory: "apollo",
  args: [...AUTO, "standalone.js"],
  clients: httpClients(() => ({ ...hello(), path: query("{ hello }").replace("graphql", "") }), say("/")),
});
testUpgrades("graphql-ws", {
  directory: "graphql-ws",
  args: ["server.js"],
  clients: { ...clients, ...graphqlSubscription() },
});
testUpgrades("graphql-ws, unchanged", {
  directory: "graphql-ws",
  args: [...AUTO, "plain.js"],
  clients: { ...clients, ...graphqlSubscription() },
  // In the second half of this time its WebSockets are closed with 1012.
  env: { HANDOVER_DRAIN_TIMEOUT: "2000" },
});
