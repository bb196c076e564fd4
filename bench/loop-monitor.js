// Measures a period in the life of a process: the longest block of its event loop, and its CPU time.
import { writeFileSync } from "node:fs";
import { Session } from "node:inspector/promises";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";

/** The directory for CPU profiles; they slow a process down. */
const { PROFILES } = process.env;

export class LoopMonitor {
  #delay = monitorEventLoopDelay({ resolution: 1 });
  #profiler = new Session();
  #cpu;

  async begin() {
    this.#cpu = process.cpuUsage();
    this.#delay.reset();
    this.#delay.enable();
    if (PROFILES === undefined) return;
    this.#profiler.connect();
    await this.#profiler.post("Profiler.enable");
    await this.#profiler.post("Profiler.setSamplingInterval", { interval: 200 });
    await this.#profiler.post("Profiler.start");
  }

  /** Returns both in ms. `name` is the name of the profile. */
  async end(name) {
    this.#delay.disable();
    const { user, system } = process.cpuUsage(this.#cpu);
    if (PROFILES !== undefined) {
      const { profile } = await this.#profiler.post("Profiler.stop");
      this.#profiler.disconnect();
      writeFileSync(join(PROFILES, `${name}.cpuprofile`), JSON.stringify(profile));
    }
    return { block: this.#delay.max / 1e6, cpu: (user + system) / 1e3 };
  }
}

/** ms of the host's monotonic clock: the same in every process. */
export function now() {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e3 + nanoseconds / 1e6;
}
