import { join } from "node:path";

// The packages are there, and so is what the programs share.
const root = join(import.meta.dirname, "../..");

export default { turbopack: { root }, outputFileTracingRoot: root };
