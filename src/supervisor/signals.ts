import { onSignals } from "../process/signals.js";
import type { SupervisorSettings } from "./settings.js";
import type { Supervisor } from "./supervisor.js";

/** Handles the signals of the service until this process ends. Those that mean nothing here are for the workers. */
export function handleSignals({ signals }: SupervisorSettings, supervisor: Supervisor): void {
  onSignals(signals, {
    upgrade: () => void supervisor.upgrade().catch(reportFailedUpgrade),
    stop: () => supervisor.stop(),
    end: () => supervisor.killWorkers(),
  });
  const own = [signals.upgrade, ...signals.stop];
  for (const name of PASSED_ON) {
    // SIGUSR1 without a handler would start the inspector of this process.
    if (!own.includes(name)) process.on(name, () => supervisor.signalWorkers(name));
  }
}

const PASSED_ON = ["SIGUSR1", "SIGUSR2", "SIGWINCH"] as const;

function reportFailedUpgrade(error: Error): void {
  process.stderr.write(`handover: upgrade failed: ${error.message}\n`);
}
