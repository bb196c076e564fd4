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
  repeatEarly();
}

/** Handles the signals that have come before: the command `handover` takes note of them from its first line on. */
function repeatEarly(): void {
  const { [EARLY]: early } = globalThis as { [EARLY]?: EarlySignals };
  if (early === undefined) return;
  for (const name of EVERY) process.off(name, early.listen);
  for (const name of early.come.splice(0)) process.emit(name);
}

interface EarlySignals {
  readonly come: NodeJS.Signals[];
  readonly listen: NodeJS.SignalsListener;
}

const EARLY: unique symbol = Symbol.for("handover.signals");

const PASSED_ON = ["SIGUSR1", "SIGUSR2", "SIGWINCH"] as const;
const EVERY = ["SIGHUP", "SIGINT", "SIGTERM", ...PASSED_ON] as const;

function reportFailedUpgrade(error: Error): void {
  process.stderr.write(`handover: upgrade failed: ${error.message}\n`);
}
