import { readdirSync } from "node:fs";
import { Agent } from "node:http";
import { connect } from "node:net";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished } from "vitest";
import { descriptorCount, Service, type Line, type StartOptions } from "./service.js";

export interface Running {
  service: Service;
  /** A client with one connection to generation 0, which it keeps. */
  client: Agent;
}

/** Starts a service, and waits until it has answered the client. */
export async function startWithClient(
  fixture: string,
  settings: object = {},
  options: StartOptions = {},
): Promise<Running> {
  const service = Service.start(fixture, { settings, ...options });
  await service.until("listening");
  await service.until("accepting");
  const client = keepAlive();
  await service.ask("/", client);
  return { service, client };
}

/** Sees that `pid` answers a new connection, stops it, and sees that no process is left. */
export async function finish({ service, client }: Running, pid = service.pid): Promise<void> {
  expect(await service.ask()).toBe(String(pid));
  client.destroy();
  await service.stop();
}

/** The words that start a fixture, for the option `command`. */
export function words(fixture: string, settings: object = {}): string[] {
  return [process.execPath, fixturePath(fixture), JSON.stringify(settings)];
}

export function fixturePath(fixture: string): string {
  return fileURLToPath(new URL(`../fixtures/${fixture}`, import.meta.url));
}

/** The same words under a shell's `ulimit -n`. */
export function limited(descriptors: number, command: string[]): string[] {
  return ["sh", "-c", `ulimit -n ${descriptors}; exec "$@"`, "sh", ...command];
}

/** The number of a process's descriptors and the files of a directory, to be compared after a failure. */
export function belongings(pid: number, directory?: string): { descriptors: number; files: string[] } {
  return {
    descriptors: descriptorCount(pid),
    files: directory === undefined ? [] : readdirSync(directory).toSorted(),
  };
}

/**
 * Asks for an upgrade by signal, which must fail and change nothing. The answer comes over the kept connection: the
 * server's end of a new one is a descriptor more for a while.
 */
export async function failUpgrade(running: Running, directory?: string): Promise<Line> {
  const { service, client } = running;
  const before = belongings(service.pid, directory);
  const failed = await service.upgrade("failed", { pid: service.pid });
  await service.untilNoise(/handover: upgrade failed: .*\n/);
  expect(belongings(service.pid, directory)).toEqual(before);
  expect(service.alive()).toEqual([service.pid]);
  expect(await service.ask("/", client)).toBe(String(service.pid));
  return failed;
}

/** A client with one connection, which it keeps. */
export function keepAlive(): Agent {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => agent.destroy());
  return agent;
}

/** Whether a process accepts on a port; `false` if a connection is refused. */
export function isServed(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = connect(port, "127.0.0.1");
    probe
      .once("connect", () => resolve(true))
      .once("error", (error: NodeJS.ErrnoException) => {
        if (error.code === "ECONNREFUSED") resolve(false);
        else reject(error);
      });
    probe.once("connect", () => probe.destroy());
  });
}
