import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { ownPackage } from "../platform/installation.js";

/** The option of Node with which every program loads `handover/auto`, from any directory. */
export function autoOption(): string {
  return `--import=${pathToFileURL(join(ownPackage(), "dist", "bundle", "auto.js")).href}`;
}

/** An environment in which every Node loads it. */
export function withAuto(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { NODE_OPTIONS } = env;
  const option = autoOption();
  if (NODE_OPTIONS?.includes(option) === true) return env;
  return { ...env, NODE_OPTIONS: NODE_OPTIONS ? `${option} ${NODE_OPTIONS}` : option };
}
