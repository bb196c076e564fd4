import { afterAll, beforeAll } from "vitest";
import { testEngine } from "../support/engine-suite.js";
import { Etcd } from "../support/etcd.js";

let server!: Etcd;
beforeAll(async () => {
  server = await Etcd.start();
});
afterAll(async () => server.remove());

let services = 0;

testEngine(() => {
  const service = `exchange ${services++}`;
  return {
    exchange: () => server.exchange({ service, lease: 12_000 }),
    expire: async (seat) => server.expire(seat),
    maxBody: 1024 * 1024,
  };
});
