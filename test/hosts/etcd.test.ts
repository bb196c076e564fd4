import { createServer } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { etcd } from "../../dist/etcd/index.js";
import { offer, parcel, taken } from "../support/exchange-suite.js";
import { Etcd } from "../support/etcd.js";
import { joinHosts } from "../support/hosts.js";
import { handover } from "../support/program.js";

let server!: Etcd;
beforeAll(async () => {
  server = await Etcd.start();
});
afterAll(async () => server.remove());

const AWAY = "http://127.0.0.1:1";

const check = async (exchange: ReturnType<typeof etcd>): Promise<void> => joinHosts(exchange).hosts.check();

/** An etcd of another kind: it answers every question in one way. */
async function stranger(status: number, answer: string): Promise<string> {
  const http = createServer((_, response) => response.writeHead(status).end(answer)).listen(0, "127.0.0.1");
  onTestFinished(() => void http.close());
  await once(http, "listening");
  return `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
}

/** Why a process cannot use an endpoint. */
async function refusal(endpoint: string): Promise<string> {
  const checking = check(etcd({ service: "gone", endpoints: [endpoint] }));
  return checking.then(
    () => "",
    ({ code, message }: { code: string; message: string }) => `${code}: ${message}`,
  );
}

describe("the connection to etcd", () => {
  test("an etcd that is not there, one that is too old, and something else are refused in words", async () => {
    expect(await refusal(AWAY)).toMatch(
      /^ERR_EXCHANGE: etcd cannot be asked: http:\/\/127\.0\.0\.1:1: connect ECONNREFUSED/,
    );
    const old = JSON.stringify({ etcdserver: "3.3.25", etcdcluster: "3.3.0" });
    expect(await refusal(await stranger(200, old))).toMatch(/it has version 3\.3\.25, and 3\.4 is needed/);
    expect(await refusal(await stranger(404, "404 page not found"))).toMatch(/it has no JSON gateway/);
    expect(await refusal(await stranger(200, "<html>"))).toMatch(/^ERR_EXCHANGE: .*JSON/);
    expect(await refusal(server.url.replace("http:", "https:"))).toMatch(/see the option "tls"/);
  });

  test("handover migrate says that etcd needs none", async () => {
    const { code, stderr } = await handover("migrate", AWAY);
    expect([code, stderr]).toEqual([2, expect.stringContaining("there is nothing to migrate")]);
  });

  test("an endpoint that is away is passed over, and the next one is asked", async () => {
    const endpoints = [AWAY, server.url];
    const { hosts } = joinHosts(etcd({ service: "failover", endpoints }));
    expect(await hosts.state!.directory.own("room", ["x"])).toMatchObject([
      { fence: expect.any(Number) as number },
    ]);
  });

  test("a user with a password takes part, and a wrong password or none is refused", async () => {
    const guarded = await Etcd.start();
    onTestFinished(async () => guarded.remove());
    await guarded.ask("/v3/auth/user/add", { name: "root", password: "secret" });
    await guarded.ask("/v3/auth/user/grant", { user: "root", role: "root" }).catch(() => {});
    await guarded.ask("/v3/auth/role/add", { name: "root" }).catch(() => {});
    await guarded.ask("/v3/auth/user/grant", { user: "root", role: "root" }).catch(() => {});
    await guarded.ask("/v3/auth/user/add", { name: "stranger", password: "strange" });
    await guarded.ask("/v3/auth/enable", {});
    const as = (options: object): ReturnType<typeof etcd> =>
      guarded.exchange({ service: "user", ...options });
    const root = { username: "root", password: "secret" };
    const [owner, other] = [joinHosts(as(root)), joinHosts(as(root))];
    other.hosts.state!.exchange.subscribe("unit", "room", () => "taken");
    await owner.hosts.state!.directory.own("room", ["x"]);
    await expect.poll(() => owner.hosts.state!.exchange.peers("unit", "room")).toHaveLength(1);
    const unit = parcel("x", { kind: "unit", label: "room" });
    expect(await offer(owner.hosts.state!.exchange, unit)).toEqual([taken]);
    await expect(check(as({ ...root, password: "wrong" }))).rejects.toThrow(
      /user "root" is unknown, or its password is wrong/,
    );
    await expect(check(as({}))).rejects.toThrow(/it asks for a user/);
    await expect(check(as({ username: "stranger", password: "strange" }))).rejects.toThrow(
      /the user "stranger" may not read and write/,
    );
  });

  test("a state that is too large for the server is refused, and says what to raise", async () => {
    const options = { service: "large", maxBody: 8 * 1024 * 1024 };
    const [owner, other] = [joinHosts(server.exchange(options)), joinHosts(server.exchange(options))];
    other.hosts.state!.exchange.subscribe("thing", "a", () => "taken");
    await expect.poll(() => owner.hosts.state!.exchange.peers("thing", "a")).toHaveLength(1);
    const large = parcel("1", { body: Buffer.alloc(2 * 1024 * 1024) });
    expect(await offer(owner.hosts.state!.exchange, large)).toMatchObject([
      { how: "refused", code: "ERR_EXCHANGE", reason: expect.stringContaining("too large") as string },
    ]);
  });

  test("after etcd was killed and started again a process goes on with its seat", async () => {
    const other = await Etcd.start();
    onTestFinished(async () => other.remove());
    const a = joinHosts(other.exchange({ service: "killed" }));
    await a.hosts.state!.directory.own("room", ["x"]);
    const { seat } = a.name();
    await other.kill();
    await other.run();
    await expect
      .poll(async () => a.hosts.state!.directory.own("room", ["y"]).catch(() => []))
      .toMatchObject([{ fence: expect.any(Number) as number }]);
    expect([a.name().seat, a.failures]).toEqual([seat, []]);
  });

  test.each([
    ["no service", { endpoints: [AWAY] }],
    ["no endpoint", { service: "a", endpoints: [] }],
    ["an endpoint that is no URL", { service: "a", endpoints: ["127.0.0.1:2379"] }],
    ["a short lease", { service: "a", endpoints: [AWAY], lease: 1_000 }],
    ["a user without a password", { service: "a", endpoints: [AWAY], username: "x" }],
    ["an unknown option", { service: "a", endpoints: [AWAY], Lease: 5_000 }],
  ])("etcd() refuses %s", (_, options) => {
    expect(() => etcd(options as never)).toThrow(expect.objectContaining({ code: "ERR_OPTION" }) as Error);
  });
});
