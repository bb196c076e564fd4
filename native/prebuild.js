// Copies the addon that was built here to the prebuilt addons of the package, by platform. Runs before the package is
// packed.
import { copyFileSync, mkdirSync, renameSync } from "node:fs";
import { fileURLToPath } from "node:url";

const built = new URL("../build/Release/handover.node", import.meta.url);
const place = new URL(`../prebuilds/${process.platform}-${process.arch}/`, import.meta.url);
mkdirSync(place, { recursive: true });
// In one step: whoever packs the package meanwhile would read a part.
const part = new URL(`${process.pid}.part`, place);
copyFileSync(built, part);
renameSync(part, new URL("handover.node", place));
console.log(fileURLToPath(place));
