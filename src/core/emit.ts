import type { EventEmitter } from "node:events";
import { reasonOf } from "../errors.js";
import { publish, type Emit, type UpgraderEvents } from "../events.js";
import type { ServiceManager } from "../systemd/service-manager.js";

/**
 * The one door for the events of a process: systemd is notified first, then the diagnostics channels, then the listeners of
 * the program.
 *
 * @param serviceManager returns the part that notifies systemd, which is made after this
 */
export function emitTo(
  emitter: EventEmitter<UpgraderEvents>,
  serviceManager: () => Pick<ServiceManager, "onEvent">,
): Emit {
  return (event, payload) => {
    try {
      serviceManager().onEvent(event, payload);
    } catch (error) {
      // Thrown further it would keep an event, or the end of this process, from the program.
      process.emitWarning(`cannot report to systemd: ${reasonOf(error)}`, { code: "HANDOVER_SYSTEMD" });
    }
    publish(event, payload);
    try {
      (emitter as EventEmitter).emit(event, payload);
    } catch (error) {
      // The exception of a listener is the program's own: it ends no step of handover.
      process.nextTick(() => {
        throw error;
      });
    }
  };
}
