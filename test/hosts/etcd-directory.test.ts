import { afterAll, beforeAll } from "vitest";
import { testDirectory, type Member } from "../support/directory-suite.js";
import { Etcd } from "../support/etcd.js";
import { joinHosts } from "../support/hosts.js";

let server!: Etcd;
beforeAll(async () => {
  server = await Etcd.start();
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
      die: async () => server.expire(host.name().seat!),
    };
  };
});
