import { createServer } from "node:http";
import { createSchema, createYoga } from "graphql-yoga";
import { useServer } from "graphql-ws/use/ws";
import { WebSocketServer } from "ws";
import { resolvers, typeDefs } from "../schema.js";

const schema = createSchema({ typeDefs, resolvers });
export const server = createServer(createYoga({ schema, logging: false }));
export const wss = new WebSocketServer({ server, path: "/graphql" });
useServer({ schema }, wss);
