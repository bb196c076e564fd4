import { once } from "node:events";
import { connect, type SecureVersion } from "node:tls";
import { expect, onTestFinished, test } from "vitest";
import { selfSigned } from "../support/client.js";
import { brief, Service } from "../support/service.js";

const versions: SecureVersion[] = ["TLSv1.2", "TLSv1.3"];

test.each(versions)("a client of %s resumes its session after upgrades", async (version) => {
  const { service, port } = await start();
  const { session } = await visit(port, version);
  await service.replace();
  const second = await visit(port, version, session);
  expect(second.isReused).toBe(true);
  await service.replace();
  expect(await visit(port, version, second.session)).toMatchObject({ isReused: true });
});

test.each(versions)("a client of %s does not resume with keys of another server", async (version) => {
  const identity = selfSigned();
  const [one, other] = [await start(identity), await start(identity)];
  const { session } = await visit(one.port, version);
  expect(await visit(other.port, version, session)).toMatchObject({ isReused: false });
});

async function start(identity = selfSigned()): Promise<{ service: Service; port: number }> {
  const service = Service.start("any-protocol.js", {
    settings: { ...brief, ...identity, protocol: "https", drainTimeout: 0 },
  });
  const { port } = await service.until("accepting");
  return { service, port: port as number };
}

/** One connection: whether it resumed a session, and the newest one to resume. */
async function visit(
  port: number,
  version: SecureVersion,
  session?: Buffer,
): Promise<{ isReused: boolean; session: Buffer }> {
  const range = { minVersion: version, maxVersion: version };
  const given = session === undefined ? {} : { session };
  const socket = connect({ port, host: "127.0.0.1", rejectUnauthorized: false, ...range, ...given });
  onTestFinished(() => void socket.destroy());
  let newest = session;
  socket.on("session", (one) => (newest = one));
  await once(socket, "secureConnect");
  expect(socket.getProtocol()).toBe(version);
  socket.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  // With TLS 1.3 a session comes after the handshake.
  socket.resume();
  await once(socket, "end");
  return { isReused: socket.isSessionReused(), session: newest! };
}
