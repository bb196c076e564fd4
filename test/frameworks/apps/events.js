import { setTimeout } from "node:timers/promises";

/** A short stream of events. */
export async function* events() {
  for (let n = 1; n <= 10; n++) {
    yield `data: event ${n} from ${process.pid}\n\n`;
    await setTimeout(100);
  }
}
