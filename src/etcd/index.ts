/**
 * `handover/etcd`: slots, units and roles of one service on several hosts, over an etcd cluster.
 *
 * @module
 */
import type { ConnectionOptions } from "node:tls";
import type { HostExchange } from "../exchange/hosts.js";
import { HandoverError } from "../errors.js";
import { EngineHosts } from "../hosts/engine-hosts.js";
import { readService } from "../hosts/service-name.js";
import { atCaller } from "../platform/at-caller.js";
import { integer, milliseconds, refuseUnknown, text, wrongOption } from "../util/validation.js";
import { EtcdEngine } from "./etcd-engine.js";

export type { HostExchange } from "../exchange/hosts.js";

/** Options of {@link etcd}. */
export interface EtcdOptions {
  /** The client URLs of the members, such as `https://10.0.0.1:2379`. One is asked, and the next one if it does not answer. */
  endpoints: readonly string[];
  /** The name of the service: processes with the same name share units, slots and roles. */
  service: string;
  /**
   * ms after which others may run what a process has that does not answer. It stops itself after two thirds of it. Default
   * 15 000; at least 2 000. The same for all hosts.
   */
  lease?: number;
  /** Options of `tls.connect()`, such as `ca`, `cert` and `key`, for endpoints that begin with `https:`. */
  tls?: ConnectionOptions;
  /** A user of etcd that may read and write the keys under `/handover/SERVICE/`. */
  username?: string;
  password?: string;
  /** Bytes of the largest state that moves. Default 1 MiB; more needs a larger `--max-request-bytes` of etcd. */
  maxBody?: number;
}

/**
 * The option `exchange` of an `Upgrader`. Nothing is connected before `ready()`.
 *
 * @throws {HandoverError} `ERR_OPTION`
 */
export function etcd(options: EtcdOptions): HostExchange {
  return atCaller({ etcd }, "etcd", () => {
    refuseUnknown("etcd()", options, KNOWN);
    const { lease = 15_000, maxBody = 1024 * 1024, tls = {} } = options;
    if (typeof tls !== "object" || tls === null) throw wrongOption("tls", "an object of options", tls);
    const settings = {
      service: readService(options.service),
      lease: milliseconds("lease", lease, SHORTEST_LEASE),
      maxBody: integer("maxBody", maxBody, 1, LARGEST_BODY),
      endpoints: readEndpoints(options.endpoints),
      tls,
      user: readUser(options),
    };
    return { engine: "etcd", join: (host) => new EngineHosts(new EtcdEngine(settings), host) };
  });
}

function readEndpoints(endpoints: unknown): URL[] {
  const wrong = wrongOption("endpoints", "a list of URLs that begin with http: or https:", endpoints);
  if (!Array.isArray(endpoints) || endpoints.length === 0) throw wrong;
  return endpoints.map((one: unknown) => {
    if (typeof one !== "string" || !URL.canParse(one)) throw wrong;
    const url = new URL(one);
    if (url.protocol !== "http:" && url.protocol !== "https:") throw wrong;
    return url;
  });
}

function readUser({ username, password }: EtcdOptions): { name: string; password: string } | undefined {
  const name = text("username", username);
  if ((name === undefined) !== (password === undefined))
    throw new HandoverError("ERR_OPTION", 'etcd() takes "username" and "password" together');
  return name === undefined ? undefined : { name, password: text("password", password)! };
}

const KNOWN = [
  "endpoints",
  "service",
  "lease",
  "tls",
  "username",
  "password",
  "maxBody",
] satisfies (keyof EtcdOptions)[];

/** ms: a lease of etcd has whole seconds, and two at least. */
const SHORTEST_LEASE = 2_000;

/** Bytes: a larger value would hold up all clients of etcd. */
const LARGEST_BODY = 16 * 1024 * 1024;
