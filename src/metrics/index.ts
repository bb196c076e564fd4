/**
 * `handover/metrics`: metrics of a service for prom-client or OpenTelemetry. The counters belong to the service, not
 * to a process: after an upgrade they continue with the predecessor's values.
 *
 * @module
 */
export type { Measured } from "./instruments.js";
export { openTelemetry, type MeterLike, type ObservableLike } from "./open-telemetry.js";
export { prometheus, type RegistryLike } from "./prometheus.js";
