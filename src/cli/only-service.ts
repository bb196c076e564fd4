import type { ControlClient } from "../control/client.js";
import { findServices, readStatus, startOf, type FoundService } from "../control/services.js";
import { HandoverError } from "../errors.js";
import { shortCommand } from "./short-command.js";

/**
 * Connects to the only service of this user.
 *
 * @param ways to name a process, for the error
 * @throws {HandoverError} `ERR_CONTROL` if there is none, or more than one, or it does not answer
 */
export async function connectToOnlyService(ways: string): Promise<ControlClient> {
  const services = await findServices();
  const [only] = services;
  if (services.length === 1 && only?.client !== undefined) return only.client;
  const names = (await Promise.all(services.map(describe))).join("; ");
  throw new HandoverError("ERR_CONTROL", whyNone(services.length, names, ways));
}

function whyNone(found: number, names: string, ways: string): string {
  if (found === 0) return `no service of this user was found; name its process ${ways}`;
  if (found === 1) return `the only service of this user does not answer: ${names}`;
  return `this user has ${found} services: ${names}; name one process ${ways}`;
}

async function describe(service: FoundService): Promise<string> {
  const status = await readStatus(service);
  if (status === undefined) return `pid ${service.pid ?? "unknown"} at ${service.path}`;
  const { command, directory } = startOf(status);
  const what = command === undefined ? service.path : `${shortCommand(command)} in ${directory}`;
  return `pid ${status.pid}, ${what}`;
}
