export { Upgrader } from "./upgrader.js";
export { HandoverError, type ErrorCode } from "./errors.js";
export type { Timings, UpgradeResult, UpgraderEvents } from "./events.js";
export type { ConnectionAdapter } from "./connections/adapter.js";
export type { Outcome } from "./lifecycle.js";
export type { CommandOverride, SignalOptions, UpgraderOptions } from "./options.js";
export type { Fds } from "./sockets/fds.js";
export type { BindOptions, ListenOptions } from "./sockets/options.js";
