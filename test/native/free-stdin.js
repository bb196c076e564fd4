// Duplicates while descriptor 0 is free.
import { native } from "./addon.js";

native.close(0);
console.log(native.duplicate(1));
