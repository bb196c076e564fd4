import { afterAll, beforeAll } from "vitest";
import { testEngine } from "../support/engine-suite.js";
import { Postgres } from "../support/postgres.js";

let server!: Postgres;
beforeAll(async () => {
  server = await Postgres.start();
});
afterAll(async () => server.remove());

let services = 0;

testEngine(() => {
  const service = `exchange ${services++}`;
  return {
    exchange: () => server.exchange({ service, lease: 12_000 }),
    expire: async (seat) => {
      await server.query("update handover.seat set seen = now() - lease * interval '2 ms' where seat = $1", [
        seat,
      ]);
    },
    maxBody: 16 * 1024 * 1024,
  };
});
