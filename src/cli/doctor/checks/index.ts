import type { Check } from "../findings.js";
import { CAPACITY_CHECKS } from "./capacity.js";
import { ENGINE_CHECKS } from "./engine.js";
import { LISTENER_CHECKS } from "./listeners.js";
import { PROCESS_CHECKS } from "./process.js";
import { PROCESS_MANAGER_CHECKS } from "./process-manager.js";
import { SERVICE_UNIT_CHECKS } from "./service-unit.js";
import { START_CHECKS } from "./start.js";
import { TIMEOUT_CHECKS } from "./timeouts.js";
import { WORKER_CHECKS } from "./workers.js";

/** Everything that `handover doctor` checks, in the order of its output. */
export const CHECKS: readonly Check[] = [
  ...SERVICE_UNIT_CHECKS,
  ...TIMEOUT_CHECKS,
  ...PROCESS_CHECKS,
  ...WORKER_CHECKS,
  ...PROCESS_MANAGER_CHECKS,
  ...START_CHECKS,
  ...LISTENER_CHECKS,
  ...CAPACITY_CHECKS,
  ...ENGINE_CHECKS,
];
