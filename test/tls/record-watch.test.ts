import { once } from "node:events";
import { duplexPair } from "node:stream";
import { setImmediate } from "node:timers/promises";
import { connect, createServer, type TLSSocket } from "node:tls";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { native } from "../../dist/platform/native.js";
import { descriptorOf } from "../../dist/platform/node-internals.js";
import { DATA, LARGEST, OVERHEAD } from "../../dist/tls/record-format.js";
import { RecordWatch } from "../../dist/tls/record-watch.js";
import { selfSigned } from "../support/client.js";
import { OpensslClient } from "../support/openssl-client.js";
import { moveAgain, moveFrom, receive, say, talk, TlsPair } from "../support/tls-pair.js";

describe("a connection stays", () => {
  test("with TLS 1.2", async () => {
    const { watch, original } = await TlsPair.open({ maxVersion: "TLSv1.2" });
    expect(watch.obstacle(original)).toBe("ERR_TLS_VERSION");
  });

  test("with a cipher suite that is not known", async () => {
    const ciphers = "TLS_AES_128_CCM_SHA256";
    const { watch, original } = await TlsPair.open({ ciphers }, { ciphers });
    expect(watch.obstacle(original)).toBe("ERR_TLS_CIPHER");
  });

  test("with HTTP/2", async () => {
    const { watch, original } = await TlsPair.open({ ALPNProtocols: ["h2"] }, { ALPNProtocols: ["h2"] });
    expect(watch.obstacle(original)).toBe("ERR_HTTP2");
  });

  test("with a client certificate, until its second request", async () => {
    const identity = selfSigned();
    const pair = await TlsPair.open({ ...identity, requestCert: true, rejectUnauthorized: false }, identity);
    await setImmediate();
    expect(pair.watch.obstacle(pair.original)).toBe("ERR_TLS_CERTIFICATE");
    await talk(pair.client, pair.original);
    await talk(pair.client, pair.original);
    await talk(pair.client, pair.move());
  });

  test("if a listener has written on it before its records were counted", async () => {
    const pair = await TlsPair.open({}, {}, (server) => {
      server.prependListener("secureConnection", (socket) => socket.write("x".repeat(2 * OVERHEAD)));
    });
    await receive(pair.client, 2 * OVERHEAD);
    await say(pair.client, pair.original, "thanks");
    expect(await untilRefused(pair.watch, pair.original)).toBe("ERR_TLS_RECORDS");
  });

  test("while it has received half a record, however long that is", async () => {
    const pair = await TlsPair.open();
    await talk(pair.client, pair.original);
    const text = "x".repeat(3 * OVERHEAD);
    pair.hold();
    pair.client.write(text);
    for (let byte = 1; byte < text.length + OVERHEAD; byte++) {
      await pair.pass(1, pair.original);
      expect(pair.watch.obstacle(pair.original), `after ${byte} bytes`).toBe("busy");
    }
    const received = receive(pair.original, text.length);
    await pair.pass(1, pair.original);
    expect(await received).toBe(text);
    expect(pair.watch.obstacle(pair.original)).toBeUndefined();
  });

  test("over another stream than a socket", async () => {
    const server = createServer(selfSigned());
    const watch = new RecordWatch(server);
    const [one, other] = duplexPair();
    const accepted = once(server, "secureConnection") as Promise<[TLSSocket]>;
    server.emit("connection", one);
    const client = connect({ socket: other, rejectUnauthorized: false });
    const [original] = await accepted;
    onTestFinished(() => void client.destroy());
    await talk(client, original);
    expect(watch.obstacle(original)).toBe("ERR_TLS_RECORDS");
  });

  test("if half a record stays half", async () => {
    const pair = await TlsPair.open();
    await talk(pair.client, pair.original);
    pair.hold();
    pair.client.write("x");
    await pair.pass(OVERHEAD, pair.original);
    expect(await untilRefused(pair.watch, pair.original)).toBe("ERR_TLS_RECORDS");
  });

  test("while its client takes slowly what was written, and moves then", async () => {
    const pair = await TlsPair.open();
    await talk(pair.client, pair.original);
    const large = "x".repeat(16_000_000);
    pair.client.pause();
    pair.original.write(large);
    await setImmediate();
    expect(obstacleLater(pair)).toBe("busy");
    const received = receive(pair.client, large.length);
    pair.client.resume();
    await received;
    await talk(pair.client, pair.move());
  });

  test("while its program reads slowly what was sent, and moves then", async () => {
    const pair = await TlsPair.open();
    await talk(pair.client, pair.original);
    const large = "x".repeat(16_000_000);
    pair.original.pause();
    pair.client.write(large);
    // Until it does not read.
    while (
      pair.original.readableLength < pair.original.readableHighWaterMark ||
      unreadOf(pair.original) === 0
    )
      await setImmediate();
    expect(pair.watch.obstacle(pair.original)).toBe("busy");
    expect(obstacleLater(pair)).toBe("busy");
    const received = receive(pair.original, large.length);
    pair.original.resume();
    await received;
    await talk(pair.client, pair.move());
  });

  test.each([1, 22])("after %d KeyUpdates of its client", async (count) => {
    const client = await OpensslClient.connect();
    const { socket, watch } = client;
    await client.say(socket, "before");
    for (let n = 0; n < count; n++) await client.updateKeys("k");
    await client.say(socket, "after");
    expect(await untilRefused(watch, socket)).toBe("ERR_TLS_RECORDS");
  });

  test.each<[string, (n: number) => number]>([
    ["pads its records by other lengths each time", (n) => 1 + ((n * 7) % 50)],
    ["has padded one", (n) => (n === 0 ? 27 : 0)],
  ])("if its client, which never rests, %s", async (_, paddingOf) => {
    const pair = await TlsPair.open();
    await talk(pair.client, pair.original);
    const keys = pair.keysOfClient();
    const obstacles: unknown[] = [];
    for (let n = 0; n < 20; n++) {
      const received = once(pair.original, "data");
      const inner = Buffer.concat([Buffer.from("more"), Buffer.of(DATA), Buffer.alloc(paddingOf(n))]);
      // The last byte stands where the type does.
      pair.forge(Buffer.concat(keys.seal(inner.at(-1)!, inner.subarray(0, -1), LARGEST)));
      await received;
      obstacles.push(pair.watch.obstacle(pair.original));
    }
    expect([obstacles.at(0), obstacles.at(-1)]).toEqual(["busy", "ERR_TLS_RECORDS"]);
  });

  test("as long as its client sends something large, of which a part has come at every look", async () => {
    const pair = await TlsPair.open();
    await talk(pair.client, pair.original);
    const text = "x".repeat(2_000_000);
    pair.hold();
    pair.client.write(text);
    const received = receive(pair.original, text.length);
    let size = 1;
    for (let left = text.length; left > size; left -= size) {
      // In no order.
      size = (size * 48_271) % 40_009;
      await pair.pass(size, pair.original);
      expect([undefined, "busy"]).toContain(pair.watch.obstacle(pair.original));
    }
    pair.goOn();
    await received;
    await talk(pair.client, pair.move());
  });

  test("if its client pads its records", async () => {
    const client = await OpensslClient.connect("-record_padding", "512");
    const { socket, watch } = client;
    await client.say(socket, "padded");
    expect(await untilRefused(watch, socket)).toBe("ERR_TLS_RECORDS");
  });
});

describe("a connection moves", () => {
  test("before its client's KeyUpdates, of both kinds", async () => {
    const client = await OpensslClient.connect();
    await client.say(client.socket, "before");
    let moved = moveFrom(client.watch, client.socket);
    for (const command of ["K", "k", "K", "K"] as const) {
      await client.updateKeys(command);
      await client.say(moved, "after");
      await client.hear(moved, `answer to ${command}`);
      moved = moveAgain(moved);
    }
    expect(await client.say(moved, "in the end")).toBe("in the end");
  });

  test("and answers no KeyUpdate before its next data, also after a further move", async () => {
    const client = await OpensslClient.connect();
    await client.say(client.socket, "before");
    const moved = moveFrom(client.watch, client.socket);
    for (let n = 0; n < 3; n++) await client.updateKeys("K");
    await client.say(moved, "after");
    expect(moved.bytesWritten).toBe(0);
    const again = moveAgain(moved);
    const renewal = 5;
    await client.hear(again, "answer");
    expect(again.bytesWritten).toBe(2 * OVERHEAD + renewal + "answer\n".length);
    await client.hear(again, "another");
  });

  test("with the length of records that its client has asked for", async () => {
    const client = await OpensslClient.connect("-maxfraglen", "512");
    await client.say(client.socket, "before");
    const moved = moveFrom(client.watch, client.socket);
    await client.hear(moved, `${"x".repeat(5_000)} the end`);
    expect(await client.say(moved, "after")).toBe("after");
    const again = moveAgain(moved);
    // As on Node's own socket, that changes nothing.
    expect(again.setMaxSendFragment(16_384)).toBe(true);
    await client.hear(again, `${"y".repeat(5_000)} the end of another`);
    expect(await client.say(again, "in the end")).toBe("in the end");
  });
});

test("a program that logs keys gets them", async () => {
  const lines: string[] = [];
  await TlsPair.open({}, {}, (server) => server.on("keylog", (line) => lines.push(String(line))));
  expect(lines.join("")).toMatch(/^CLIENT_TRAFFIC_SECRET_0 [0-9a-f]{64} [0-9a-f]{64,96}$/m);
});

/** Bytes that the system has received of a connection, and the program has not read. */
function unreadOf(socket: TLSSocket): number {
  const counted = new Float64Array(4);
  native().connectionCounters(descriptorOf(socket), counted);
  return counted[3]!;
}

/** What keeps a connection that has stayed as it is for a day. */
function obstacleLater({ watch, original }: TlsPair): string | undefined {
  watch.obstacle(original);
  const clock = vi.spyOn(performance, "now").mockReturnValue(performance.now() + 86_400_000);
  try {
    return watch.obstacle(original);
  } finally {
    clock.mockRestore();
  }
}

/** How a connection is refused that is only busy at first. */
async function untilRefused(watch: RecordWatch, socket: TLSSocket): Promise<string | undefined> {
  for (;;) {
    const obstacle = watch.obstacle(socket);
    if (obstacle !== "busy") return obstacle;
    await setImmediate();
  }
}
