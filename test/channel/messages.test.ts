import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ENTRIES_PER_MESSAGE, MAX_SIZE, type Message } from "../../dist/channel/messages.js";
import { bodyOf, decode, encode } from "../../dist/channel/wire-format.js";
import { HandoverError } from "../../dist/errors.js";

const bytes = (text: string): Uint8Array => Buffer.from(text);

/** One of each type, and what it is on the wire. A change here breaks upgrades from published versions. */
const examples: [Message, string][] = [
  [
    { type: "hello", protocol: 1, capabilities: ["x"], version: "0.1.0", pid: 7, generation: 0 },
    '{"type":"hello","protocol":1,"capabilities":["x"],"version":"0.1.0","pid":7,"generation":0}',
  ],
  [
    {
      type: "inventory",
      entries: [
        { name: "a", address: { kind: "tcp", host: "::1", port: 80, ipv6Only: true } },
        { name: "b", address: { kind: "unix", path: "/b" }, file: { path: "/b", dev: "1", ino: "2" } },
        { name: "c" },
      ],
      more: false,
    },
    '{"type":"inventory","entries":[' +
      '{"name":"a","address":{"kind":"tcp","host":"::1","port":80,"ipv6Only":true}},' +
      '{"name":"b","address":{"kind":"unix","path":"/b"},"file":{"path":"/b","dev":"1","ino":"2"}},' +
      '{"name":"c"}],"more":false}',
  ],
  [{ type: "ready", used: ["a", "b"] }, '{"type":"ready","used":["a","b"]}'],
  [
    { type: "commit", predecessors: [{ generation: 3, pid: 4 }] },
    '{"type":"commit","predecessors":[{"generation":3,"pid":4}]}',
  ],
  [{ type: "roles-refused", message: "a", fence: 12 }, '{"type":"roles-refused","message":"a","fence":12}'],
  [
    { type: "own", request: 1, kind: "room", ids: ["a", "b"], from: 7 },
    '{"type":"own","request":1,"kind":"room","ids":["a","b"],"from":7}',
  ],
  [
    { type: "where", request: 2, kind: "room", id: "a" },
    '{"type":"where","request":2,"kind":"room","id":"a"}',
  ],
  [
    { type: "owned", request: 1, results: [12, { index: 1, generation: 2, pid: 3 }] },
    '{"type":"owned","request":1,"results":[12,{"index":1,"generation":2,"pid":3}]}',
  ],
  [
    { type: "disown", kind: "room", ids: ["a"], fences: [12] },
    '{"type":"disown","kind":"room","ids":["a"],"fences":[12]}',
  ],
  [{ type: "confirmed" }, '{"type":"confirmed"}'],
  [
    {
      type: "left",
      connections: 2,
      summary: { moved: 1, stayed: { a: 1 }, destroyed: 1, unsettled: 0, units: {} },
    },
    '{"type":"left","connections":2,"summary":{"moved":1,"stayed":{"a":1},"destroyed":1,"unsettled":0,"units":{}}}',
  ],
  [{ type: "probe", name: "web" }, '{"type":"probe","name":"web"}'],
  [{ type: "rehearsed" }, '{"type":"rehearsed"}'],
  [{ type: "stopping" }, '{"type":"stopping"}'],
  [
    { type: "uncaught", message: "a", name: "Error", code: "E", stack: "b" },
    '{"type":"uncaught","message":"a","name":"Error","code":"E","stack":"b"}',
  ],
  [{ type: "progress-query" }, '{"type":"progress-query"}'],
  [{ type: "progress", connections: 1, remaining: 20 }, '{"type":"progress","connections":1,"remaining":20}'],
  [
    { type: "commit", predecessors: [], ticketKeys: { web: "eA==" }, fence: 9 },
    '{"type":"commit","predecessors":[],"ticketKeys":{"web":"eA=="},"fence":9}',
  ],
  [
    {
      type: "offer",
      parcels: [
        {
          number: 3,
          kind: "slot",
          label: "web",
          id: "9",
          version: 1,
          codec: "json",
          size: 2,
          sha256: "x",
          fds: 1,
          memory: true,
        },
      ],
    },
    '{"type":"offer","parcels":[{"number":3,"kind":"slot","label":"web","id":"9","version":1,"codec":"json",' +
      '"size":2,"sha256":"x","fds":1,"memory":true}]}',
  ],
  [{ type: "withdraw", numbers: [1, 2] }, '{"type":"withdraw","numbers":[1,2]}'],
  [
    {
      type: "settle",
      results: [
        { number: 1, how: "taken" },
        { number: 2, how: "refused", refusals: [{ code: "ERR_VERSION", reason: "old" }] },
        { number: 3, how: "withdrawn", refusals: [{ code: "ERR_TAKER" }] },
      ],
    },
    '{"type":"settle","results":[{"number":1,"how":"taken"},' +
      '{"number":2,"how":"refused","refusals":[{"code":"ERR_VERSION","reason":"old"}]},' +
      '{"number":3,"how":"withdrawn","refusals":[{"code":"ERR_TAKER"}]}]}',
  ],
  [
    { type: "subscriptions", topics: [{ kind: "slot" }, { kind: "unit", label: "room" }] },
    '{"type":"subscriptions","topics":[{"kind":"slot"},{"kind":"unit","label":"room"}]}',
  ],
  [
    { type: "peek", request: 1, topic: { kind: "slot", label: "a" } },
    '{"type":"peek","request":1,"topic":{"kind":"slot","label":"a"}}',
  ],
  [
    { type: "expedite", request: 2, topic: { kind: "unit", label: "room" }, id: "x" },
    '{"type":"expedite","request":2,"topic":{"kind":"unit","label":"room"},"id":"x"}',
  ],
  [{ type: "answer", request: 2, held: true }, '{"type":"answer","request":2,"held":true}'],
  [
    {
      type: "reader-changed",
      id: "x",
      lost: true,
      reader: { generation: 2, pid: 7 },
      topics: [{ kind: "slot" }],
    },
    '{"type":"reader-changed","id":"x","lost":true,"reader":{"generation":2,"pid":7},"topics":[{"kind":"slot"}]}',
  ],
  [{ type: "reader-changed", id: "x" }, '{"type":"reader-changed","id":"x"}'],
  [{ type: "reader-changed-ack", id: "x" }, '{"type":"reader-changed-ack","id":"x"}'],
  [{ type: "channel-failed", reason: "x" }, '{"type":"channel-failed","reason":"x"}'],
  [{ type: "unsupported", unknown: "x" }, '{"type":"unsupported","unknown":"x"}'],
];

/** Fields whose absence has a meaning. */
const ADDED = new Set(["ticketKeys", "fence", "lost", "reader", "topics", "name", "code", "stack", "from"]);

describe.each(examples)("the message %o", (message, text) => {
  test(`the message ${message.type} is encoded to its documented bytes`, () => {
    expect(Buffer.from(encode(message)).toString()).toBe(text);
  });

  test(`the message ${message.type} is decoded from its bytes`, () => {
    expect(decode(bytes(text))).toEqual(message);
  });

  test(`the message ${message.type} is decoded with fields of a newer version`, () => {
    const newer = { ...message, added: { deeply: ["new"] } };
    expect(decode(bytes(JSON.stringify(newer)))).toMatchObject(message);
  });

  const fields = Object.keys(message).filter((name) => name !== "type");
  test(`the message ${message.type} is refused without one of its fields`, () => {
    for (const name of fields.filter((field) => !ADDED.has(field))) {
      expect(refusal({ ...message, [name]: undefined })).toContain(`without a proper "${name}"`);
    }
  });

  test(`the message ${message.type} is refused with a field of another type`, () => {
    for (const name of fields) {
      for (const value of wrongFor((message as unknown as Record<string, unknown>)[name])) {
        expect(refusal({ ...message, [name]: value })).toContain(`without a proper "${name}"`);
      }
    }
  });
});

const address = { kind: "tcp", host: "::", port: 1, ipv6Only: false };
const file = { path: "/a", dev: "1", ino: "2" };

test.each([
  ["no name", {}],
  ["a number for a name", { name: 1 }],
  ["an address of no kind", { name: "a", address: { ...address, kind: undefined } }],
  ["an address of another kind", { name: "a", address: { ...address, kind: "sctp" } }],
  ["an address without a host", { name: "a", address: { ...address, host: undefined } }],
  ["a negative port", { name: "a", address: { ...address, port: -1 } }],
  ["a word for ipv6Only", { name: "a", address: { ...address, ipv6Only: "no" } }],
  ["a Unix address without a path", { name: "a", address: { kind: "unix" } }],
  ["an address that is null", { name: "a", address: null }],
  ["a file without an inode", { name: "a", file: { ...file, ino: undefined } }],
  ["a file with a number for an inode, which may have lost digits", { name: "a", file: { ...file, ino: 2 } }],
  ["a file that is a list", { name: "a", file: [] }],
])("an inventory with an entry that has %s is refused", (_, entry) => {
  expect(refusal({ type: "inventory", entries: [entry], more: false })).toBe(
    'cannot understand a message of the other process: a inventory message without a proper "entries"',
  );
});

test.each([
  ["nothing", ""],
  ["no JSON", "hello"],
  ["half of a message", '{"type":"confirmed"'],
  ["two messages", '{"type":"confirmed"}{"type":"confirmed"}'],
  ["a list", '[{"type":"confirmed"}]'],
  ["null", "null"],
  ["a word", '"confirmed"'],
  ["no type", "{}"],
  ["a number for a type", '{"type":1}'],
  ["a NUL in front of the message", '\0{"type":"confirmed"}'],
])("a packet of %s is refused", (_, text) => {
  expect(() => decode(bytes(text))).toThrow(
    expect.objectContaining({ name: "HandoverError", code: "ERR_PROTOCOL" }),
  );
});

test("the bytes behind a NUL are the body of a packet", () => {
  const body = Buffer.from([0, 0xff, 0x7d, 0]);
  const packet = encode({ type: "confirmed" }, body);
  expect(decode(packet)).toEqual({ type: "confirmed" });
  expect(Buffer.from(bodyOf(packet))).toEqual(body);
});

test("a message without a body has an empty one", () => {
  expect(bodyOf(encode({ type: "confirmed" }))).toHaveLength(0);
  expect(bodyOf(encode({ type: "confirmed" }, new Uint8Array()))).toHaveLength(0);
});

test("a packet that is not UTF-8 is refused", () => {
  const packet = Buffer.concat([bytes('{"type":"unsupported","unknown":"'), Buffer.of(0xff), bytes('"}')]);
  expect(() => decode(packet)).toThrow(/not JSON in UTF-8/);
});

test.each(["rewind", "__proto__", "constructor", "toString", ""])(
  "the message type %o is unknown, and no error",
  (type) => {
    expect(decode(bytes(JSON.stringify({ ["type"]: type })))).toEqual({ type: "unknown", name: type });
  },
);

test("the name of an unknown type is cut, so that the answer is short", () => {
  expect(decode(bytes(JSON.stringify({ type: "x".repeat(100_000) })))).toEqual({
    type: "unknown",
    name: "x".repeat(64),
  });
});

test.each([1, 100, 60_000])("a packet of JSON %i levels deep is decoded or refused", (depth) => {
  const deep = "[".repeat(depth) + "]".repeat(depth);
  expect(decode(bytes(`{"type":"confirmed","added":${deep}}`)).type).toBe("confirmed");
  expect(() => decode(bytes(`{"type":"ready","used":[${deep}]}`))).toThrow(HandoverError);
});

test("a packet has at most MAX_SIZE bytes, in both directions", () => {
  const envelope = '{"type":"unsupported","unknown":""}'.length;
  const message = (size: number): Message => ({ type: "unsupported", unknown: "x".repeat(size - envelope) });
  const largest = message(MAX_SIZE);
  expect(decode(encode(largest))).toEqual(largest);
  const larger = message(MAX_SIZE + 1);
  expect(() => encode(larger)).toThrow(`cannot send unsupported: ${MAX_SIZE + 1} bytes, at most ${MAX_SIZE}`);
  expect(() => decode(bytes(JSON.stringify(larger)))).toThrow(`${MAX_SIZE + 1} bytes, at most ${MAX_SIZE}`);
});

test("a packet that is too large is refused before it is parsed", () => {
  const nonsense = new Uint8Array(MAX_SIZE + 1);
  expect(() => decode(nonsense)).toThrow(/bytes, at most/);
});

test("an inventory of the longest names and paths fits into its messages", () => {
  // One byte that JSON writes as six.
  const name = "\u0001".repeat(256);
  const path = `/${"\u0001".repeat(106)}`;
  const entry = {
    name,
    address: { kind: "unix" as const, path },
    file: { path, dev: String(2n ** 64n), ino: String(2n ** 64n) },
  };
  const entries = Array.from({ length: ENTRIES_PER_MESSAGE }, () => entry);
  expect(encode({ type: "inventory", entries, more: true }).length).toBeLessThanOrEqual(MAX_SIZE);
});

describe("random input", () => {
  const expected = ["unknown", "object", "ERR_PROTOCOL"];

  test("a packet of random bytes is refused with ERR_PROTOCOL", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 512 }), (packet) => {
        expect(outcome(packet)).toBe("ERR_PROTOCOL");
      }),
      { numRuns: 2_000 },
    );
  });

  test("a packet of random JSON is a message, or refused", () => {
    const type = fc.constantFrom(...examples.map(([message]) => message.type), "other");
    const json = fc
      .tuple(type, fc.jsonValue())
      .map(([name, value]) => (isRecord(value) ? { ...value, type: name } : value));
    fc.assert(
      fc.property(json, (value) => {
        expect(expected).toContain(outcome(bytes(JSON.stringify(value))));
      }),
      { numRuns: 2_000 },
    );
  });

  test("a packet with one changed byte is a message, or refused", () => {
    const changed = fc
      .tuple(fc.constantFrom(...examples), fc.nat(), fc.integer({ min: 0, max: 255 }))
      .map(([[, text], at, byte]) => {
        const packet = bytes(text);
        packet[at % packet.length] = byte;
        return packet;
      });
    fc.assert(
      fc.property(changed, (packet) => {
        expect(expected).toContain(outcome(packet));
      }),
      { numRuns: 2_000 },
    );
  });

  test("a message with random fields is decoded to itself", () => {
    const count = fc.nat();
    const entry = fc.record(
      {
        name: fc.string({ unit: "binary" }),
        address: fc.oneof(
          fc.record({
            kind: fc.constantFrom("tcp" as const, "udp" as const),
            host: fc.string(),
            port: count,
            ipv6Only: fc.boolean(),
          }),
          fc.record({ kind: fc.constant("unix" as const), path: fc.string({ unit: "binary" }) }),
        ),
        file: fc.record({ path: fc.string(), dev: fc.string(), ino: fc.string() }),
      },
      { requiredKeys: ["name"], noNullPrototype: true },
    );
    const message: fc.Arbitrary<Message> = fc.oneof(
      fc.record({ type: fc.constant("inventory" as const), entries: fc.array(entry), more: fc.boolean() }),
      fc.record({ type: fc.constant("ready" as const), used: fc.array(fc.string({ unit: "binary" })) }),
      fc.record({
        type: fc.constant("commit" as const),
        predecessors: fc.array(fc.record({ generation: count, pid: count })),
      }),
      fc.record({ type: fc.constant("progress" as const), connections: count, remaining: count }),
    );
    fc.assert(
      fc.property(message, (one) => {
        expect(decode(encode(one))).toEqual(one);
      }),
    );
  });
});

function refusal(message: object): string {
  try {
    decode(bytes(JSON.stringify(message)));
  } catch (error) {
    return (error as HandoverError).message;
  }
  return "none";
}

/** What comes of a packet: a message, or the only error there may be. */
function outcome(packet: Uint8Array): string {
  try {
    const message = decode(packet);
    // A message that was understood can be sent on.
    return message.type === "unknown" ? "unknown" : typeof encode(message);
  } catch (error) {
    return error instanceof HandoverError ? error.code : String(error);
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What does not fit a field that may have this value. */
/** Of a record by names, which may be empty. */
const isTicketKey = (name: string): boolean => name === "web";

function wrongFor(value: unknown): unknown[] {
  if (Array.isArray(value)) {
    const wrongItem = typeof value[0] === "number" ? ["x"] : [1];
    return [null, 1, "x", {}, wrongItem, [[]], ...(value.includes(null) ? [] : [[null]])];
  }
  if (typeof value === "number") return [null, -1, 1.5, 2 ** 53, "7", [], {}, true];
  const emptyIsFine = typeof value === "object" && value !== null && Object.keys(value).every(isTicketKey);
  return [null, 1, [], ...(emptyIsFine ? [] : [{}]), typeof value === "string" ? true : "true"];
}
