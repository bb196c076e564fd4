import { reasonOf } from "../errors.js";
import type { EngineReport } from "../exchange/hosts.js";
import type { RoleEngine } from "./role-engine.js";

/**
 * Looks at an engine: what it says of itself, its clock, and how long it takes to answer.
 *
 * @param open opens it, if it is not open
 */
export async function reportOn(
  engine: Pick<RoleEngine, "name" | "lease" | "inspect" | "time">,
  open: () => Promise<void>,
): Promise<EngineReport> {
  const { name, lease } = engine;
  try {
    await open();
    // This question connects, if there is no connection: the next ones measure no more than answers.
    const inspection = await engine.inspect();
    return { engine: name, lease, ...inspection, ...(await measure(engine)) };
  } catch (error) {
    return { engine: name, lease, unreachable: reasonOf(error) };
  }
}

async function measure(engine: Pick<RoleEngine, "time">): Promise<Pick<EngineReport, "ahead" | "slowest">> {
  let slowest = 0;
  let fastest = Infinity;
  let ahead: number | undefined;
  const begin = performance.now();
  for (let n = 0; n < ANSWERS && performance.now() - begin < LONGEST_LOOK; n++) {
    const sent = performance.now();
    const time = await engine.time();
    const here = Date.now();
    const took = performance.now() - sent;
    slowest = Math.max(slowest, took);
    // The faster an answer, the less is unknown of when the engine has read its clock.
    if (took < fastest && time !== undefined) ahead = Math.round(time - (here - took / 2));
    fastest = Math.min(fastest, took);
  }
  return { slowest: Math.ceil(slowest * 10) / 10, ...(ahead === undefined ? {} : { ahead }) };
}

const ANSWERS = 5;

/** ms. A slow engine is not asked further. */
const LONGEST_LOOK = 2_000;
