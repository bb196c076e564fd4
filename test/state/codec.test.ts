import { anything, assert, jsonValue, object, oneof, pre, property } from "fast-check";
import { describe, expect, test } from "vitest";
import { jsonCodec, v8Codec, type Codec } from "../../dist/state/codec.js";
import { resolveSchema, type StateSchema } from "../../dist/state/schema.js";
import { decode, encode } from "../../dist/state/encoding.js";
import type { Parcel } from "../../dist/exchange/parcel.js";

/** What arrives of `data`, if one process has the shape `from` and the other one `to`. */
function pass(data: unknown, from: StateSchema<unknown> = { version: 1 }, to = from): unknown {
  return decode(resolveSchema("slot", to), packed(data, from));
}

function packed(data: unknown, shape: StateSchema<unknown>): Parcel {
  return {
    kind: "slot",
    label: "a",
    id: "1",
    fds: [],
    ...encode(resolveSchema("slot", shape), data, 'slot "a"'),
  };
}

class Point {
  x = 1;
}

function fails(): never {
  throw new Error("thrown by the test");
}

/** Vitest fails a run in which nobody handles a rejection. */
async function rejects(): Promise<never> {
  return Promise.reject(new Error("rejected by the test"));
}

function nested(depth: number): unknown {
  return depth === 0 ? null : [nested(depth - 1)];
}

const EVERYTHING = {
  withBigInt: true,
  withDate: true,
  withMap: true,
  withSet: true,
  withSparseArray: true,
  withTypedArray: true,
  withNullPrototype: true,
};

function isAccepted(data: unknown): boolean {
  try {
    jsonCodec.encode(data);
    return true;
  } catch {
    return false;
  }
}

const cycle: { list: unknown[] } = { list: [] };
cycle.list.push({ again: cycle });

describe("JSON", () => {
  test.each<[string, unknown, string, string]>([
    ["a Map", { a: [new Map()] }, "an instance of Map", "$.a[0]"],
    ["a Set", [new Set()], "an instance of Set", "$[0]"],
    ["a Date", { users: [{}, { born: new Date(0) }] }, "an instance of Date", "$.users[1].born"],
    ["a BigInt", { n: 1n }, "a bigint", "$.n"],
    ["undefined", undefined, "undefined", "$"],
    ["undefined in an array", [1, undefined], "undefined", "$[1]"],
    // oxlint-disable-next-line no-sparse-arrays
    ["a hole", [1, , 2], "undefined", "$[1]"],
    ["a field of an array", Object.assign([1], { more: 2 }), "a named field of an array", "$"],
    ["NaN", { a: NaN }, "NaN", "$.a"],
    ["Infinity", [Infinity], "Infinity", "$[0]"],
    ["-Infinity", -Infinity, "-Infinity", "$"],
    ["-0", { "no name": -0 }, "-0", '$["no name"]'],
    ["a class instance", { at: new Point() }, "an instance of Point", "$.at"],
    ["a class of arrays", new (class List extends Array {})(), "an instance of List", "$"],
    ["an object of another kind", Object.create({}), "an instance of Object", "$"],
    [
      "an object of no kind",
      Object.create(Object.create(null)),
      "an object with a prototype of its own",
      "$",
    ],
    ["a Buffer", { bytes: Buffer.from("x") }, "an instance of Buffer", "$.bytes"],
    ["a cycle", cycle, "a cycle", "$.list[0].again"],
    ["a symbol", { a: Symbol("x") }, "a symbol", "$.a"],
    ["a field named by a symbol", { a: { [Symbol("x")]: 1 } }, "a field whose name is a symbol", "$.a"],
    ["a function", { run: () => 1 }, "a function", "$.run"],
    ["toJSON", { a: { toJSON: () => 1 } }, "an object with toJSON()", "$.a"],
    ["an Error", new TypeError("x"), "an instance of TypeError", "$"],
    ["a String object", [new String("x")], "an instance of String", "$[0]"],
    [
      "a nesting without end",
      nested(1_100),
      "a value that is nested more than 1000 levels deep",
      `$${"[0]".repeat(1_001)}`,
    ],
  ])("JSON refuses %s, and names its path", (_, data, what, path) => {
    expect(() => pass(data)).toThrow(
      expect.objectContaining({
        code: "ERR_ENCODING",
        message: `cannot move slot "a": JSON would lose ${what} at ${path}`,
      }) as Error,
    );
  });

  test("JSON accepts an object in two places, and one without a prototype", () => {
    const shared = { a: 1 };
    const bare = Object.assign(Object.create(null) as object, { x: [shared] });
    expect(pass({ one: shared, two: [shared, shared], bare })).toEqual({
      one: shared,
      two: [shared, shared],
      bare: { x: [shared] },
    });
  });

  test("JSON leaves out a field that is undefined", () => {
    expect(pass({ a: undefined, b: 1 })).toStrictEqual({ b: 1 });
  });

  test("JSON decodes every value that it accepts to an equal one", () => {
    let accepted = 0;
    assert(
      property(oneof(anything(EVERYTHING), jsonValue(), object()), (data) => {
        pre(isAccepted(data));
        accepted++;
        expect(jsonCodec.decode(jsonCodec.encode(data))).toEqual(data);
      }),
      { numRuns: 1_000 },
    );
    expect(accepted).toBeGreaterThanOrEqual(1_000);
  });

  test("JSON keeps every text, also half a surrogate pair and a name like __proto__", () => {
    const data = JSON.parse('{"__proto__":{"a":1},"text":"\\ud800 \\u0000 \\u2028 Č"}') as object;
    const back = pass(data) as object;
    expect(Object.hasOwn(back, "__proto__")).toBe(true);
    expect(back).toStrictEqual(data);
  });

  test.each([
    ["is no JSON", Buffer.from("{")],
    ["is no UTF-8", Buffer.from([0x22, 0xff, 0x22])],
    ["begins with a byte order mark", Buffer.from("\ufeff1")],
  ])("JSON refuses to decode a body that %s", (_, body) => {
    const parcel = { ...packed(1, { version: 1 }), body };
    expect(() => decode(resolveSchema("slot", { version: 1 }), parcel)).toThrow(
      expect.objectContaining({ code: "ERR_CODEC" }) as Error,
    );
  });
});

describe("V8", () => {
  const shape = { version: 1, codec: v8Codec };

  test("V8's codec carries a Map, a Set, a Date, a BigInt, undefined, holes and cycles", () => {
    const data = { map: new Map([[{ a: 1 }, new Set([1n])]]), date: new Date(5), list: [undefined, NaN, -0] };
    expect(pass(data, shape)).toStrictEqual(data);
    const back = pass(cycle, shape) as typeof cycle;
    expect((back.list[0] as { again: unknown }).again).toBe(back);
  });

  test("V8's codec refuses a value that cannot be cloned", () => {
    expect(() => pass({ run: () => 1 }, shape)).toThrow(
      expect.objectContaining({
        code: "ERR_ENCODING",
        message: expect.stringMatching(/^cannot move slot "a": V8 cannot clone it: /) as string,
      }) as Error,
    );
  });

  test("V8's codec has the version of V8 in its name, and another version is refused", () => {
    const version = process.versions.v8.split(".").slice(0, 2).join(".");
    expect(v8Codec.name).toMatch(new RegExp(`^v8-${version}-\\d+$`));
    const other = { ...shape, codec: { ...v8Codec, name: "v8-1.0-1" } };
    expect(() => pass(new Map(), other, shape)).toThrow(
      expect.objectContaining({
        code: "ERR_CODEC",
        message: `it is encoded by v8-1.0-1, here it is ${v8Codec.name}`,
      }) as Error,
    );
  });
});

test.each([
  ["JSON", jsonCodec],
  ["V8", v8Codec],
])("the %s codec throws a HandoverError for bytes that it cannot decode", (_, codec) => {
  expect(() => codec.decode(Buffer.from("{"))).toThrow(
    expect.objectContaining({ name: "HandoverError", code: "ERR_CODEC" }) as Error,
  );
});

describe("bytes", () => {
  test.each([
    ["JSON", jsonCodec],
    ["V8", v8Codec],
  ])("bytes move unchanged under the codec %s", (_, codec) => {
    const bytes = Buffer.from([0, 255, 1]);
    expect(packed(bytes, { version: 1, codec })).toMatchObject({ codec: "bytes", body: bytes });
    expect(pass(bytes, { version: 1, codec }, { version: 1 })).toEqual(bytes);
    expect(pass(new Uint8Array(0), { version: 1, codec })).toHaveLength(0);
  });
});

describe("a codec of the program's own", () => {
  const reversing: Codec = {
    name: "reversing",
    encode: (data) => Buffer.from(String(data)).toReversed(),
    decode: (bytes) => Buffer.from(bytes.toReversed()).toString(),
  };

  test("a codec of the program's own encodes and decodes", () => {
    expect(packed("abc", { version: 1, codec: reversing })).toMatchObject({ codec: "reversing" });
    expect(Buffer.from(packed("abc", { version: 1, codec: reversing }).body).toString()).toBe("cba");
    expect(pass("abc", { version: 1, codec: reversing })).toBe("abc");
  });

  test.each([
    ["no bytes", () => "text", /the codec reversing returned 'text', not a Uint8Array$/],
    ["nothing", () => undefined, /the codec reversing returned undefined, not a Uint8Array$/],
    [
      "a promise",
      rejects,
      /encode\(\) of the codec reversing returned a promise: it must not be asynchronous$/,
    ],
    ["an exception", () => JSON.parse("{") as unknown, /^cannot move slot "a": .*JSON/],
  ])("a codec that returns %s is refused in the predecessor", (_, give, message) => {
    const codec = { ...reversing, encode: give as Codec["encode"] };
    expect(() => packed("abc", { version: 1, codec })).toThrow(
      expect.objectContaining({
        code: "ERR_ENCODING",
        message: expect.stringMatching(message) as string,
      }) as Error,
    );
  });

  test("a codec that cannot decode is refused in the successor", () => {
    const codec = { ...reversing, decode: (): never => JSON.parse("{") as never };
    expect(() => pass("abc", { version: 1, codec: reversing }, { version: 1, codec })).toThrow(
      expect.objectContaining({ code: "ERR_CODEC" }) as Error,
    );
  });

  test.each([
    [{ ...reversing, name: "" }],
    [{ ...reversing, name: "x".repeat(65) }],
    [{ ...reversing, decode: undefined }],
    [null],
    ["json"],
  ])("the option codec refuses %j", (codec) => {
    expect(() => resolveSchema("slot", { version: 1, codec: codec as unknown as Codec })).toThrow(
      expect.objectContaining({ code: "ERR_OPTION" }) as Error,
    );
  });
});

describe("a schema", () => {
  test("maxSize is the limit beyond which the predecessor refuses", () => {
    expect(pass("12345678", { version: 1, maxSize: 10 })).toBe("12345678");
    const message = 'cannot move slot "a": it has 11 bytes, at most 10 (maxSize)';
    const refusal = expect.objectContaining({ code: "ERR_TOO_LARGE", message }) as Error;
    expect(() => pass("123456789", { version: 1, maxSize: 10 })).toThrow(refusal);
    expect(() => pass(Buffer.alloc(11), { version: 1, maxSize: 10 })).toThrow(refusal);
  });

  test.each([
    ["older", 1, 2],
    ["newer", 3, 2],
  ])("migrate() of an %s version runs before check()", (_, from, to) => {
    const seen: unknown[] = [];
    const shape: StateSchema<unknown> = {
      version: to,
      migrate: (version, data) => [version, data],
      check: (data) => seen.push(data),
    };
    expect(pass("x", { version: from }, shape)).toEqual([from, "x"]);
    expect(seen).toEqual([[from, "x"]]);
  });

  test("migrate() does not run for the same version", () => {
    expect(pass("x", { version: 2 }, { version: 2, migrate: fails })).toBe("x");
  });

  test.each<[string, string, string, Partial<StateSchema<unknown>>]>([
    [
      "another version without migrate",
      "ERR_VERSION",
      "it has version 1, here it is 2, and there is no migrate",
      {},
    ],
    ["state over which migrate throws", "ERR_MIGRATE", "thrown by the test", { migrate: fails }],
    ["state over which check throws", "ERR_CHECK", "thrown by the test", { version: 1, check: fails }],
    [
      "state for which check returns false",
      "ERR_CHECK",
      "check returned false",
      { version: 1, check: () => false },
    ],
  ])("a schema refuses %s", (_, code, message, shape) => {
    expect(() => pass("x", { version: 1 }, { version: 2, ...shape })).toThrow(
      expect.objectContaining({ code, message }) as Error,
    );
  });

  test.each<[string, string, string, Partial<StateSchema<unknown>>]>([
    ["migrate", "ERR_MIGRATE", "migrate()", { version: 2, migrate: rejects }],
    ["check", "ERR_CHECK", "check()", { check: rejects }],
    ["decode", "ERR_CODEC", "decode() of the codec json", { codec: { ...jsonCodec, decode: rejects } }],
  ])("an asynchronous %s is refused, and its rejection handled", (_, code, what, shape) => {
    const message = `${what} returned a promise: it must not be asynchronous`;
    expect(() => pass("x", { version: 1 }, { version: 1, ...shape })).toThrow(
      expect.objectContaining({ code, message }) as Error,
    );
  });

  test("state for which check returns nothing is accepted", () => {
    expect(pass("x", { version: 1 }, { version: 1, check: () => undefined })).toBe("x");
  });

  test.each([
    { version: -1 },
    { version: 1.5 },
    { version: "1" },
    {},
    { version: 1, maxSize: 0 },
    { version: 1, migrate: true },
    { version: 1, check: "x" },
    { version: 1, migrat: () => 1 },
  ])("a schema is refused if it is %j", (shape) => {
    expect(() => resolveSchema("slot", shape as StateSchema<unknown>)).toThrow(
      expect.objectContaining({ code: "ERR_OPTION" }) as Error,
    );
  });
});
