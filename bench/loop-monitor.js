// Measures a period in the life of a process: the longest block of its event loop, and its CPU time.
import { writeFileSync } from "node:fs";
import { Session } from "node:inspector/promises";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { countAbove } from "./statistics.js";

/** The directory for CPU profiles; they slow a process down. */
const { PROFILES } = process.env;

/** ms */
const LONG = 10;
const RESOLUTION = 1;

export class LoopMonitor {
  #delay = monitorEventLoopDelay({ resolution: RESOLUTION });
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

  /** Returns times in ms, and the number of blocks of more than {@link LONG}. `name` is the name of the profile. */
  async end(name) {
    // A block of this very turn is noticed after it.
    await sleep(RESOLUTION + 1);
    this.#delay.disable();
    const { user, system } = process.cpuUsage(this.#cpu);
    if (PROFILES !== undefined) {
      const { profile } = await this.#profiler.post("Profiler.stop");
      this.#profiler.disconnect();
      writeFileSync(join(PROFILES, `${name}.cpuprofile`), JSON.stringify(profile));
    }
    const blocks = countAbove(this.#delay, LONG * 1e6);
    return { block: this.#delay.max / 1e6, blocks, cpu: (user + system) / 1e3 };
  }
}

/** ms of the host's monotonic clock: the same in every process. */
export function now() {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e3 + nanoseconds / 1e6;
}
