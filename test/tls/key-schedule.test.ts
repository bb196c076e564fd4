import { expect, test } from "vitest";
import { suiteOf } from "../../dist/tls/cipher-suites.js";
import { expandLabel } from "../../dist/tls/key-schedule.js";

const suite = suiteOf("TLS_AES_128_GCM_SHA256")!;

test("the keys of a secret are those of RFC 8448", () => {
  const secret = Buffer.from("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643", "hex");
  const key = expandLabel(suite, secret, "key", Buffer.alloc(0), 16);
  const iv = expandLabel(suite, secret, "iv", Buffer.alloc(0), 12);
  expect(key.toString("hex")).toBe("9f02283b6c9c07efc26bb9f2ac92e356");
  expect(iv.toString("hex")).toBe("cf782b88dd83549aadf1e984");
});
