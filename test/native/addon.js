// The built addon itself: fixtures are plain JavaScript and cannot import src/platform/native.ts.
import { createRequire } from "node:module";

export const native = createRequire(import.meta.url)("../../build/Release/handover.node");
