// What the GraphQL servers of these programs answer.
import { setTimeout } from "node:timers/promises";

export const typeDefs = `
  type Query { hello: String! }
  type Mutation { say(word: String!): String! }
  type Subscription { events: String! }
`;

export const resolvers = {
  Query: { hello: () => `hello from ${process.pid}` },
  Mutation: { say: (_, { word }) => `${word} from ${process.pid}` },
  Subscription: {
    events: {
      resolve: (event) => event,
      async *subscribe() {
        for (let n = 1; n <= 10; n++) {
          yield `event ${n} from ${process.pid}`;
          await setTimeout(100);
        }
      },
    },
  },
};
