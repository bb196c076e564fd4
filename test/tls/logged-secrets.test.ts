import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { LoggedSecrets } from "../../dist/tls/logged-secrets.js";

const NEEDED = ["CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0", "EXPORTER_SECRET"] as const;

test.each([32, 48])("secrets of %d bytes are those of the key log, until they are erased", (length) => {
  const secrets = new LoggedSecrets();
  for (const label of ["CLIENT_HANDSHAKE_TRAFFIC_SECRET", "EARLY_EXPORTER_SECRET", "CLIENT_RANDOM"]) {
    secrets.note(line(label, randomBytes(length)));
  }
  const logged = NEEDED.map((label) => ({ label, secret: randomBytes(length) }));
  for (const { label, secret } of logged) {
    expect(secrets.isComplete).toBe(false);
    secrets.note(line(label, secret));
  }
  expect(secrets.isComplete).toBe(true);
  for (const { label, secret } of logged) expect(secrets.get(label).equals(secret)).toBe(true);
  secrets.erase();
  expect(secrets.isComplete).toBe(false);
});

test("a line of another form is ignored", () => {
  const secrets = new LoggedSecrets();
  for (const label of NEEDED) secrets.note(Buffer.from(`${label} ${"00".repeat(48)}\n`));
  for (const label of NEEDED) secrets.note(line(label, Buffer.alloc(64)));
  expect(secrets.isComplete).toBe(false);
});

function line(label: string, secret: Buffer): Buffer {
  return Buffer.from(`${label} ${randomBytes(32).toString("hex")} ${secret.toString("hex")}\n`);
}
