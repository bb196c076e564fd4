import { afterAll, beforeAll } from "vitest";
import { testDirectory, type Member } from "../support/directory-suite.js";
import { joinHosts } from "../support/hosts.js";
import { Postgres } from "../support/postgres.js";

let server!: Postgres;
beforeAll(async () => {
  server = await Postgres.start();
});
afterAll(async () => server.remove());

let services = 0;

testDirectory(() => {
  const service = `directory ${services++}`;
  return (): Member => {
    const host = joinHosts(server.exchange({ service, lease: 60_000 }));
    return {
      directory: host.hosts.directory,
      get name() {
        return host.name();
      },
      die: async () => {
        await server.query("update handover.seat set seen = now() - interval '1 day' where seat = $1", [
          host.name().seat,
        ]);
      },
    };
  };
});
