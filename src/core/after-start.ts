import { warnAboutParents } from "../process/parents.js";
import type { ProcessContext } from "./context.js";
import { warnAboutUnmanaged } from "./upgrade-checks.js";

/**
 * Does what can wait until this process accepts. In the package this call also loads the modules that a start does not need:
 * now, because a deployment may have removed their file when the first upgrade comes.
 */
export function afterStart(context: ProcessContext): void {
  // A supervisor waits for its workers, and starts them again.
  if (context.supervisor === undefined) warnAboutParents(context.generation === 0);
  warnAboutUnmanaged(context);
}
