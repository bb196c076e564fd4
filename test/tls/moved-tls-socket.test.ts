import { once } from "node:events";
import { TLSSocket, type ConnectionOptions, type TlsOptions } from "node:tls";
import { describe, expect, test } from "vitest";
import { inspect } from "node:util";
import { stopReading } from "../../dist/platform/node-internals.js";
import { DATA, LARGEST, OVERHEAD } from "../../dist/tls/record-format.js";
import { RecordLayer } from "../../dist/tls/record-layer.js";
import { decodeSecure } from "../../dist/tls/secure-state.js";
import type { TlsAlert } from "../../dist/tls/tls-alert.js";
import { selfSigned } from "../support/client.js";
import { moveAgain, receive, say, talk, TlsPair } from "../support/tls-pair.js";

const SUITES = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

test.each(SUITES)("a connection with %s continues after a move, and after three more", async (ciphers) => {
  const pair = await TlsPair.open({}, { ciphers });
  await talk(pair.client, pair.original);
  let moved = pair.move();
  for (let n = 0; n < 3; n++) {
    await talk(pair.client, moved, "x".repeat(100_000));
    moved = moveAgain(moved);
  }
  await talk(pair.client, moved);
  expect(moved.getCipher().standardName).toBe(ciphers);
});

test.each<[string, TlsOptions, ConnectionOptions]>([
  ["whose first hello was answered by a retry", { ecdhCurve: "P-384" }, { ecdhCurve: "X25519:P-384" }],
  ["without session tickets", { secureOptions: 1 << 14 }, {}],
  ["with ALPN", { ALPNProtocols: ["a"] }, { ALPNProtocols: ["a"] }],
  ["with a name", {}, { servername: "a.example" }],
])("a connection %s continues after a move", async (_, server, client) => {
  const pair = await TlsPair.open(server, client);
  await talk(pair.client, pair.original);
  const { alpnProtocol } = pair.original;
  const moved = pair.move();
  await talk(pair.client, moved);
  expect(moved.alpnProtocol).toBe(alpnProtocol);
  expect(moved.servername).toBe(client.servername ?? false);
});

test("a connection that has carried nothing continues after a move", async () => {
  const pair = await TlsPair.open();
  await new Promise(setImmediate);
  const moved = pair.move();
  expect(await talk(pair.client, moved)).toBe("hello");
});

test("a connection whose session was resumed continues after a move", async () => {
  const options = selfSigned();
  const first = await TlsPair.open({ ...options, ticketKeys: KEYS });
  const session = once(first.client, "session") as Promise<[Buffer]>;
  await talk(first.client, first.original);
  const second = await TlsPair.open({ ...options, ticketKeys: KEYS }, { session: (await session)[0] });
  expect(second.original.isSessionReused()).toBe(true);
  await talk(second.client, second.original);
  const moved = second.move();
  await talk(second.client, moved);
  expect(moved.isSessionReused()).toBe(true);
});

test.each([5, 16_384, 16_385, 300_000])(
  "a connection on which the server has spoken first, %d bytes, continues after a move",
  async (size) => {
    const pair = await TlsPair.open({}, {}, (server) => {
      server.on("secureConnection", (socket) => socket.write("x".repeat(size)));
    });
    await receive(pair.client, size);
    await say(pair.client, pair.original, "thanks");
    expect(await talk(pair.client, pair.move())).toBe("hello");
  },
);

test("a connection moves in the middle of a record, at each of its bytes", async () => {
  const pair = await TlsPair.open();
  await talk(pair.client, pair.original);
  let moved = pair.move();
  pair.hold();
  pair.client.write("abc");
  for (let byte = 0; byte < "abc".length + OVERHEAD - 1; byte++) {
    await pair.pass(1, moved);
    moved = moveAgain(moved);
  }
  const data = once(moved, "data") as Promise<[Buffer]>;
  await pair.pass(1, moved);
  expect(String((await data)[0])).toBe("abc");
});

describe("a moved connection, for the program,", () => {
  test("is a tls.TLSSocket, and answers as that did", async () => {
    const identity = selfSigned();
    const pair = await TlsPair.open(
      { ...identity, requestCert: true, rejectUnauthorized: false, ca: identity.cert },
      { ...identity, servername: "localhost" },
    );
    await talk(pair.client, pair.original);
    await talk(pair.client, pair.original);
    const { original } = pair;
    const before = {
      cipher: original.getCipher(),
      certificate: original.getPeerCertificate(),
      detailed: original.getPeerCertificate(true).fingerprint256,
      x509: original.getPeerX509Certificate()!.fingerprint256,
      exported: original.exportKeyingMaterial(32, "EXPORTER-test", Buffer.from("context")),
      authorized: original.authorized,
      authorizationError: original.authorizationError,
      remote: original.remotePort,
    };
    const moved = moveAgain(pair.move());
    expect(moved).toBeInstanceOf(TLSSocket);
    expect({
      cipher: moved.getCipher(),
      certificate: moved.getPeerCertificate(),
      detailed: moved.getPeerCertificate(true).fingerprint256,
      x509: moved.getPeerX509Certificate()!.fingerprint256,
      exported: moved.exportKeyingMaterial(32, "EXPORTER-test", Buffer.from("context")),
      authorized: moved.authorized,
      authorizationError: moved.authorizationError,
      remote: moved.remotePort,
    }).toEqual(before);
    expect(moved).toMatchObject({ encrypted: true, servername: "localhost", alpnProtocol: false });
    expect(moved.getProtocol()).toBe("TLSv1.3");
    expect(pair.client.exportKeyingMaterial(32, "EXPORTER-test", Buffer.from("context"))).toEqual(
      before.exported,
    );
  });

  test("has no certificate of its client if that has none", async () => {
    const pair = await TlsPair.open();
    await talk(pair.client, pair.original);
    const moved = pair.move();
    expect(moved.getPeerCertificate()).toEqual({});
    expect(moved.getPeerX509Certificate()).toBeUndefined();
  });

  test("answers or refuses each member of a tls.TLSSocket", async () => {
    const pair = await TlsPair.open();
    await talk(pair.client, pair.original);
    const moved = pair.move() as unknown as Record<string, (...args: unknown[]) => unknown>;
    const results = ["getSession", "getTLSTicket", "getFinished", "getPeerFinished", "getEphemeralKeyInfo"];
    expect(results.map((name) => moved[name]!())).toEqual([undefined, undefined, undefined, undefined, null]);
    for (const name of [
      "renegotiate",
      "getCertificate",
      "getX509Certificate",
      "getSharedSigalgs",
      "setKeyCert",
      "enableTrace",
      "setServername",
      "setSession",
    ]) {
      expect(() => moved[name]!({}, () => {})).toThrow(
        expect.objectContaining({ code: "ERR_NOT_SUPPORTED" }),
      );
    }
  });

  test("has read bytes as soon as it has half a record: its time limits count from there", async () => {
    const pair = await TlsPair.open();
    await talk(pair.client, pair.original);
    const moved = pair.move();
    expect(moved.bytesRead).toBe(0);
    pair.hold();
    pair.client.write("x");
    await pair.pass(7, moved);
    expect(moved.bytesRead).toBe(7);
  });

  test("sends records of the size that it sets", async () => {
    const pair = await TlsPair.open();
    await talk(pair.client, pair.original);
    const moved = pair.move();
    expect(moved.setMaxSendFragment(511)).toBe(false);
    expect(moved.setMaxSendFragment(512)).toBe(true);
    const sizes: number[] = [];
    pair.client.on("data", (chunk: Buffer) => sizes.push(chunk.length));
    await say(moved, pair.client, "x".repeat(1_025));
    expect(sizes).toEqual([512, 512, 1]);
  });
});

test("a moved connection does not end by an exception of the program's listener", async () => {
  const pair = await TlsPair.open();
  await talk(pair.client, pair.original);
  const moved = pair.move();
  const uncaught = new Promise<unknown>((resolve) => {
    const others = process.listeners("uncaughtException");
    process.removeAllListeners("uncaughtException");
    process.once("uncaughtException", (error) => {
      for (const one of others) process.on("uncaughtException", one);
      resolve(error);
    });
  });
  const failure = new Error("a listener");
  moved.once("data", () => {
    throw failure;
  });
  pair.client.write("first");
  expect(await uncaught).toBe(failure);
  expect(await talk(pair.client, moved)).toBe("hello");
});

test("no record of a moved connection is lost if the program gives the memory of the one before away", async () => {
  const pair = await TlsPair.open();
  await talk(pair.client, pair.original);
  const moved = pair.move();
  let text = "";
  moved.on("data", (chunk: Buffer<ArrayBuffer>) => {
    text += String(chunk);
    // As `postMessage` does. It has the chunk and nothing else, as with Node's own sockets.
    const given = structuredClone(chunk.buffer, { transfer: [chunk.buffer] });
    expect(given.byteLength).toBe("one".length);
  });
  pair.hold();
  for (const one of ["one", "two", "six"]) await new Promise((written) => pair.client.write(one, written));
  await pair.pass(3 * (OVERHEAD + "one".length), moved);
  expect(text).toBe("onetwosix");
});

test("a moved connection exports the keys that it did before, and none for arguments that were refused", async () => {
  const pair = await TlsPair.open();
  await talk(pair.client, pair.original);
  const [label, longest] = ["EXPORTER-test", 255 * 48];
  const calls: unknown[][] = [
    [1, label],
    [longest, label, Buffer.from("context")],
    [32, "x".repeat(249), new DataView(new ArrayBuffer(3))],
    [0, label],
    [longest + 1, label],
    [1.5, label],
    ["32", label],
    [32],
    [32, "x".repeat(250)],
    [32, label, null],
    [32, label, "context"],
  ];
  const exported = (socket: { exportKeyingMaterial(...args: [number, string, Buffer]): Buffer }): unknown[] =>
    calls.map(([length, ...others]) => {
      try {
        return socket.exportKeyingMaterial(length as number, ...(others as [string, Buffer]));
      } catch {
        return "refused";
      }
    });
  const before = exported(pair.original);
  expect(before.filter((one) => one === "refused")).toHaveLength(8);
  expect(exported(pair.move())).toEqual(before);
});

test("a moved connection exports no keys after its end: those of an erased secret could be guessed", async () => {
  const pair = await TlsPair.open();
  await talk(pair.client, pair.original);
  const moved = pair.move();
  const closed = once(moved, "close");
  moved.destroy();
  await closed;
  expect(() => moved.exportKeyingMaterial(32, "EXPORTER-test")).toThrow(/exporter secret/);
});

describe("a moved connection ends", () => {
  test("with close_notify if the program ends it", async () => {
    const pair = await TlsPair.open();
    await talk(pair.client, pair.original);
    const moved = pair.move();
    const ended = once(pair.client, "end");
    const closed = once(moved, "close");
    moved.end("bye");
    await ended;
    expect(await closed).toEqual([false]);
  });

  test("when the client ends it", async () => {
    const pair = await TlsPair.open();
    await talk(pair.client, pair.original);
    const moved = pair.move();
    moved.resume();
    const ended = once(moved, "end");
    const closed = once(pair.client, "close");
    pair.client.end();
    await ended;
    expect(await closed).toEqual([false]);
  });

  test.each([
    ["garbage", Buffer.from("GET / HTTP/1.1\r\n\r\n"), 10],
    ["a record that was forged", Buffer.concat([Buffer.from("1703030020", "hex"), Buffer.alloc(32)]), 20],
    ["a record that is too long", Buffer.from("17030341ff", "hex"), 22],
    ["a record that is too short", Buffer.from("170303000501", "hex"), 20],
    ["a plain alert", Buffer.from("15030300020100", "hex"), 10],
  ])("with an alert after %s", async (_, bytes, alert) => {
    const pair = await TlsPair.open();
    await talk(pair.client, pair.original);
    const moved = pair.move();
    const failed = once(moved, "error") as Promise<[Error & { description: number }]>;
    const seen = once(pair.client, "error") as Promise<[Error & { code: string }]>;
    pair.forge(bytes);
    expect((await failed)[0]).toMatchObject({ code: "EPROTO", description: alert });
    expect((await seen)[0].code).toMatch(/^ERR_SSL_/);
  });
});

test.each([
  [32, "passes"],
  [33, "ends with an alert: 10"],
])("a moved connection on which %d records without data arrive in a row %s", async (count, outcome) => {
  const pair = await TlsPair.open();
  await talk(pair.client, pair.original);
  stopReading(pair.original);
  const keys = pair.keysOfClient();
  const moved = pair.move();
  const parts: Buffer[] = [];
  for (let n = 0; n < count; n++) parts.push(...keys.seal(DATA, new Uint8Array(), LARGEST));
  parts.push(...keys.seal(DATA, Buffer.from("data"), LARGEST));
  const seen = new Promise((resolve) => {
    moved.once("data", () => resolve("passes"));
    moved.once("error", (error) => resolve(`ends with an alert: ${(error as TlsAlert).description}`));
  });
  pair.forge(Buffer.concat(parts));
  expect(await seen).toBe(outcome);
});

test("secrets of a moved connection are not shown with its socket", async () => {
  const pair = await TlsPair.open();
  await talk(pair.client, pair.original);
  stopReading(pair.original);
  const state = decodeSecure(pair.watch.freeze(pair.original)!);
  const { receiving, sending, exporter } = state;
  const secrets = [receiving.secret, sending.secret, exporter!].map((secret) => secret.toString("hex"));
  const moved = pair.move();
  const all = { showHidden: true, depth: 9, maxArrayLength: null, maxStringLength: null };
  const shown = inspect(moved, all).replaceAll(/[^0-9a-f]/g, "");
  for (const secret of secrets) expect(shown).not.toContain(secret);
});

test("secrets of a record layer are erased when it forgets them", async () => {
  const pair = await TlsPair.open();
  await talk(pair.client, pair.original);
  stopReading(pair.original);
  const state = decodeSecure(pair.watch.freeze(pair.original)!);
  const secrets = [state.receiving.secret, state.sending.secret, state.exporter!];
  const layer = new RecordLayer(state.suite, state, { data: () => {}, end: () => {} });
  expect(secrets.some((secret) => secret.every((byte) => byte === 0))).toBe(false);
  layer.forget();
  for (const secret of secrets) expect(secret).toEqual(Buffer.alloc(secret.length));
});

const KEYS = Buffer.alloc(48, 1);
