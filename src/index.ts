export { Upgrader, type StageOptions } from "./upgrader.js";
export { HandoverError, type ErrorCode, type RefusalCode, type UnitOwner } from "./errors.js";
export type { Rehearsal, Staged, UpgradeResult, UpgraderEvents } from "./events.js";
export type { ConnectionAdapter, Handover } from "./connections/adapter.js";
export { http, type HttpConnections, type HttpOptions } from "./connections/http-connections.js";
export type { Outcome } from "./lifecycle.js";
export type { CommandOverride, SignalOptions, UpgraderOptions } from "./options.js";
export type { Fds } from "./sockets/fds.js";
export type { BindOptions, ListenOptions } from "./sockets/listen-options.js";
export { jsonCodec, v8Codec, type Codec } from "./state/codec.js";
export type { StateSchema } from "./state/schema.js";
export type { SlotOutcome } from "./state/slots/pending-slot.js";
export type { Peer, Refusal } from "./exchange/parcel.js";
export type { RoleDefinition } from "./state/role.js";
export type { HostExchange, HostsStatus } from "./exchange/hosts.js";
export type { InitiateOptions, Slot, SlotDefinition } from "./state/slots/slots.js";
export type { SlotState } from "./state/slots/subscribers.js";
export type {
  AttachedSocket,
  DrainOptions,
  RunContext,
  StopContext,
  UnitDefinition,
} from "./state/units/unit-definition.js";
export type { DrainReport } from "./events.js";
export type { Units } from "./state/units/units.js";
export type { Timings, UpgradeRecord } from "./events.js";
export type { Distribution, Totals } from "./metrics/totals.js";
export type { UpgradeOutcome } from "./events.js";
