/** Under this name the process has its Upgrader, so that every copy of this package finds it. */
const CURRENT = Symbol.for("handover.upgrader");

/** The Upgrader of this process, also one that another copy of the package has made. Undefined before one is made. */
export function currentUpgrader(): unknown {
  return (globalThis as { [CURRENT]?: unknown })[CURRENT];
}

/** From now on it is the Upgrader of this process. */
export function setCurrentUpgrader(upgrader: unknown): void {
  (globalThis as { [CURRENT]?: unknown })[CURRENT] = upgrader;
}
