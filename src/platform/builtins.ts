import type { Cluster } from "node:cluster";
import type { Server } from "node:net";
import type { Server as TlsServer } from "node:tls";

/**
 * Node's own modules that a program does not need to start, each loaded at its first use. To import all of them would take a
 * quarter of the time in which Node itself starts.
 */
export const builtins = {
  get childProcess() {
    return process.getBuiltinModule("node:child_process");
  },
  get cluster() {
    return process.getBuiltinModule("node:cluster") as unknown as Cluster;
  },
  get crypto() {
    return process.getBuiltinModule("node:crypto");
  },
  get dgram() {
    return process.getBuiltinModule("node:dgram");
  },
  get dns() {
    return process.getBuiltinModule("node:dns/promises");
  },
  get http() {
    return process.getBuiltinModule("node:http");
  },
  get https() {
    return process.getBuiltinModule("node:https");
  },
  get inspector() {
    return process.getBuiltinModule("node:inspector");
  },
  get module() {
    return process.getBuiltinModule("node:module");
  },
  get net() {
    return process.getBuiltinModule("node:net");
  },
  get os() {
    return process.getBuiltinModule("node:os");
  },
  get stringDecoder() {
    return process.getBuiltinModule("node:string_decoder");
  },
  get timers() {
    return process.getBuiltinModule("node:timers/promises");
  },
  get tls() {
    return process.getBuiltinModule("node:tls");
  },
  get tty() {
    return process.getBuiltinModule("node:tty");
  },
  get url() {
    return process.getBuiltinModule("node:url");
  },
  get util() {
    return process.getBuiltinModule("node:util");
  },
  get v8() {
    return process.getBuiltinModule("node:v8");
  },
};

/** Whether a server is one of `node:tls`, without loading that module for any other server. */
export function isTlsServer(server: Server): server is TlsServer {
  return "setTicketKeys" in server && server instanceof builtins.tls.Server;
}
