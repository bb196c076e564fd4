import { randomBytes } from "node:crypto";
import { constants } from "node:os";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { native } from "../../dist/platform/native.js";
import type { CipherSuite } from "../../dist/tls/cipher-suites.js";
import { createRecordCipher } from "../../dist/tls/record-cipher.js";
import { moveAgain, talk, TlsPair } from "../support/tls-pair.js";

const OVERHEAD = 22;
const { RecordCipher } = native();

const SUITES: CipherSuite[] = [
  { cipher: "aes-128-gcm", keyLength: 16, hash: "sha256", hashLength: 32 },
  { cipher: "aes-256-gcm", keyLength: 32, hash: "sha384", hashLength: 48 },
  { cipher: "chacha20-poly1305", keyLength: 32, hash: "sha256", hashLength: 32 },
];

test("the addon finds OpenSSL in this Node", () => {
  expect(RecordCipher).toBeDefined();
});

test.each(SUITES)("$cipher of the addon and of node:crypto seal the same bytes", (suite) => {
  const [key, iv] = [randomBytes(suite.keyLength), randomBytes(12)];
  for (const size of [0, 1, 16_384, 16_385, 200_000]) {
    for (const largest of [512, 16_384]) {
      const plain = randomBytes(size);
      const sealed = [RecordCipher, undefined].map((one) => {
        use(one);
        return Buffer.concat(
          createRecordCipher(suite, key, iv, "seal").seal(23, plain, largest, 2 ** 40 + 7),
        );
      });
      expect(sealed[0]!.equals(sealed[1]!)).toBe(true);
    }
  }
});

test("a key that was erased seals and opens nothing", () => {
  const cipher = new RecordCipher!("aes-128-gcm", randomBytes(16), randomBytes(12), true);
  cipher.forget();
  cipher.forget();
  expect(cipher.seal(23, Buffer.alloc(1), 1, 0, Buffer.alloc(1 + OVERHEAD))).toBeLessThan(0);
  expect(cipher.open(Buffer.alloc(1 + OVERHEAD), 0, 1 + OVERHEAD, 0)).toBeLessThan(0);
});

test("the addon refuses arguments that would be written or read beyond their memory", () => {
  const cipher = new RecordCipher!("aes-128-gcm", randomBytes(16), randomBytes(12), true);
  expect(cipher.seal(23, Buffer.alloc(2), 1, 0, Buffer.alloc(2 + OVERHEAD))).toBeLessThan(0);
  expect(cipher.open(Buffer.alloc(20), 0, 20, 0)).toBeLessThan(0);
  expect(cipher.open(Buffer.alloc(50), 40, 10, 0)).toBeLessThan(0);
  const { EINVAL } = constants.errno;
  // More than an int holds: OpenSSL would write behind its end.
  for (const size of [16_646, 2 ** 31 + 100]) {
    expect(cipher.open(Buffer.alloc(size), 0, size, 0)).toBe(-EINVAL);
  }
  expect(() => cipher.open(Buffer.alloc(50), 0, 51, 0)).toThrow(RangeError);
  expect(() => cipher.open(Buffer.alloc(50), 0, 50, -1)).toThrow(RangeError);
  expect(() => new RecordCipher!("aes-128-gcm", randomBytes(32), randomBytes(12), true)).toThrow(RangeError);
});

describe.each([
  ["the addon", RecordCipher],
  ["node:crypto", undefined],
])("with %s", (_, cipher) => {
  beforeEach(() => use(cipher));

  test.each(SUITES)("$cipher opens what it has sealed, and nothing else", (suite) => {
    const [key, iv] = [randomBytes(suite.keyLength), randomBytes(12)];
    const [sealing, opening] = (["seal", "open"] as const).map((how) =>
      createRecordCipher(suite, key, iv, how),
    );
    const plain = randomBytes(1_000);
    const seal = (sequence: number): Buffer => Buffer.concat(sealing!.seal(22, plain, 16_384, sequence));
    const expected = Buffer.concat([plain, Uint8Array.of(22)]);
    expect(opening!.open(seal(5), 0, plain.length + OVERHEAD, 5).equals(expected)).toBe(true);
    for (const at of [4, 5, 500, plain.length + OVERHEAD - 1]) {
      const forged = seal(6);
      forged[at]! ^= 1;
      expect(() => opening!.open(forged, 0, forged.length, 6)).toThrow(/cannot open|unable to authenticate/);
    }
    expect(() => opening!.open(seal(6), 0, plain.length + OVERHEAD, 7)).toThrow(
      /cannot open|unable to authenticate/,
    );
    // It goes on after a failure.
    expect(opening!.open(seal(7), 0, plain.length + OVERHEAD, 7).equals(expected)).toBe(true);
  });

  test("a connection moves twice, and carries small and large texts in both directions", async () => {
    const pair = await TlsPair.open();
    await talk(pair.client, pair.original);
    const moved = pair.move();
    const large = "0123456789".repeat(30_000);
    for (const text of ["x", large, "y"]) {
      expect(await talk(pair.client, moved, text)).toBe(text);
    }
    const again = moveAgain(moved);
    expect(await talk(again, pair.client, large)).toBe(large);
  });
});

afterEach(() => use(RecordCipher));

/** Undefined is what an addon has that does not find OpenSSL. */
function use(cipher: typeof RecordCipher): void {
  if (cipher === undefined) delete native().RecordCipher;
  else native().RecordCipher = cipher;
}
