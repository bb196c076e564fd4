import { setTimeout } from "node:timers/promises";
import { initTRPC } from "@trpc/server";

const t = initTRPC.create();

const asText = (value) => {
  if (typeof value !== "string") throw new TypeError("a word, please");
  return value;
};

export const router = t.router({
  hello: t.procedure.query(() => `hello from ${process.pid}`),
  say: t.procedure.input(asText).mutation(({ input }) => `${input} from ${process.pid}`),
  events: t.procedure.subscription(async function* () {
    for (let n = 1; n <= 10; n++) {
      yield `event ${n} from ${process.pid}`;
      await setTimeout(100);
    }
  }),
});
