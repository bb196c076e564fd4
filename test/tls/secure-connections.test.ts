import tls from "node:tls";
import { expect, onTestFinished, test } from "vitest";
import { sendCloseNotify, SecureConnections } from "../../dist/tls/secure-connections.js";
import { selfSigned } from "../support/client.js";

test("a server whose self-test fails has no listeners of handover, and logs no keys", async () => {
  const { connect } = tls;
  onTestFinished(() => void (tls.connect = connect));
  const server = tls.createServer(selfSigned());
  const names = server.eventNames();
  const connections = new SecureConnections(server);
  expect(server.listenerCount("keylog")).toBe(1);
  tls.connect = () => {
    throw new Error("no client");
  };
  const warned = new Promise((resolve) => process.once("warning", resolve));
  await connections.prepare();
  expect(await warned).toMatchObject({ code: "HANDOVER_TLS" });
  expect(server.eventNames()).toEqual(names);
});

test("a self-test that fails as the system lacks descriptors is repeated at the next upgrade", async () => {
  const { connect } = tls;
  onTestFinished(() => void (tls.connect = connect));
  const server = tls.createServer(selfSigned());
  const connections = new SecureConnections(server);
  tls.connect = () => {
    throw Object.assign(new Error("too many open files"), { code: "EMFILE" });
  };
  const warned = new Promise((resolve) => process.once("warning", resolve));
  await connections.prepare();
  expect(await warned).toMatchObject({ code: "HANDOVER_TLS" });
  expect(server.listenerCount("keylog")).toBe(1);
  tls.connect = connect;
  const second = connections.prepare();
  await second;
  // It has succeeded, and is not repeated.
  expect(connections.prepare()).toBe(second);
});

test("a damaged connection that falls silent does not end the process", () => {
  expect(() => sendCloseNotify(-1, Buffer.from("damaged"))).not.toThrow();
});
