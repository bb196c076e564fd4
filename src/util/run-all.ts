/**
 * Runs every step, also those after one that throws: half of a cleanup would leave descriptors open, or a server that
 * accepts in two processes.
 *
 * @throws the first error, once all steps have run
 */
export function runAll(steps: Iterable<() => void>): void {
  const errors: unknown[] = [];
  for (const step of steps) {
    try {
      step();
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) throw errors[0];
}
