/**
 * `handover/metrics`: what happens in the service, as metrics of prom-client or OpenTelemetry. The counters are those of
 * the service, not of a process: at an upgrade they go on where the predecessor was.
 *
 * @module
 */
export type { Measured } from "./instruments.js";
export { openTelemetry, type MeterLike, type ObservableLike } from "./open-telemetry.js";
export { prometheus, type RegistryLike } from "./prometheus.js";
