import { createSchema, createYoga } from "graphql-yoga";
import { resolvers, typeDefs } from "../schema.js";

export const yoga = createYoga({ schema: createSchema({ typeDefs, resolvers }), logging: false });
