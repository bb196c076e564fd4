import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { RequestedAddress } from "../dist/address.js";
import { absolutePath, describeAddress, fits, nameOf } from "../dist/address.js";

const tcp = (host: string, port: number, ipv6Only = false): RequestedAddress => ({
  kind: "tcp",
  host,
  port,
  ipv6Only,
});
const unix = (path: string): RequestedAddress => ({ kind: "unix", path });
const udp = (host: string, port: number): RequestedAddress => ({ kind: "udp", host, port, ipv6Only: false });

test.each([
  [tcp("127.0.0.1", 8080), "tcp:127.0.0.1:8080"],
  [tcp("*", 80), "tcp:*:80"],
  [tcp("::1", 80), "tcp:[::1]:80"],
  [tcp("localhost", 80), "tcp:localhost:80"],
  [udp("0.0.0.0", 53), "udp:0.0.0.0:53"],
  [udp("::", 53), "udp:[::]:53"],
  [unix("/run/app.sock"), "unix:/run/app.sock"],
  [unix("\0abstract"), "unix:@abstract"],
])("the name of %o is %s", (address, name) => {
  expect(describeAddress(address)).toBe(name);
  expect(nameOf(address, () => false)).toBe(name);
});

test("listeners on port 0 are numbered, each address on its own", () => {
  const taken = new Set<string>();
  const next = (address: RequestedAddress): string => {
    const name = nameOf(address, (one) => taken.has(one));
    taken.add(name);
    return name;
  };
  const any = tcp("127.0.0.1", 0);
  expect([next(any), next(tcp("::1", 0)), next(any), next(udp("127.0.0.1", 0)), next(any)]).toEqual([
    "tcp:127.0.0.1:0#1",
    "tcp:[::1]:0#1",
    "tcp:127.0.0.1:0#2",
    "udp:127.0.0.1:0#1",
    "tcp:127.0.0.1:0#3",
  ]);
});

test("a name that was released goes to the next listener", () => {
  const taken = new Set(["tcp:*:0#1", "tcp:*:0#3"]);
  expect(nameOf(tcp("*", 0), (name) => taken.has(name))).toBe("tcp:*:0#2");
});

describe("an inherited address", () => {
  test.each([
    ["the same address", tcp("*", 80), tcp("*", 80), true],
    ["another port", tcp("*", 80), tcp("*", 81), false],
    ["any port, for one asked for as 0", tcp("*", 0), tcp("*", 81), true],
    ["a port asked for as 0, for a certain one", tcp("*", 80), tcp("*", 0), false],
    ["another host", tcp("127.0.0.1", 80), tcp("*", 80), false],
    ["IPv6 only, for both", tcp("*", 80), tcp("*", 80, true), false],
    ["both, for IPv6 only", tcp("*", 80, true), tcp("*", 80), false],
    ["UDP, for TCP", tcp("*", 80), udp("*", 80), false],
    ["the same path", unix("/a"), unix("/a"), true],
    ["another path", unix("/a"), unix("/b"), false],
    ["a path, for a port", tcp("*", 80), unix("/a"), false],
    ["a port, for a path", unix("/a"), tcp("*", 80), false],
    ["what has no address", tcp("*", 80), undefined, false],
  ])("an inherited listener on %s fits, or not", (_, asked, handedOn, verdict) => {
    expect(fits(asked, handedOn)).toBe(verdict);
  });

  test("an inherited address fits the same request", () => {
    const address = fc.oneof(
      fc.record({
        kind: fc.constantFrom("tcp" as const, "udp" as const),
        host: fc.string(),
        port: fc.nat(65_535),
        ipv6Only: fc.boolean(),
      }),
      fc.record({ kind: fc.constant("unix" as const), path: fc.string() }),
    );
    fc.assert(
      fc.property(address, (one) => {
        expect(fits(one, one)).toBe(true);
      }),
    );
  });
});

test.each([
  ["app.sock", "/srv/app.sock"],
  ["./app.sock", "/srv/app.sock"],
  ["../app.sock", "/app.sock"],
  ["/run/app.sock", "/run/app.sock"],
  ["\0app", "\0app"],
])("the path %o in /srv is %o", (path, absolute) => {
  expect(absolutePath(path, "/srv")).toBe(absolute);
});
