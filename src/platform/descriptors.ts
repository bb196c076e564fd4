import { check, native } from "./native.js";

export function closeAll(fds: readonly number[]): void {
  for (const fd of fds) native().close(fd);
}

/** Duplicates all descriptors, or none if one of them fails. */
export function duplicateAll(fds: readonly number[]): number[] {
  const duplicates: number[] = [];
  try {
    for (const fd of fds) duplicates.push(check(native().duplicate(fd), "duplicate", `descriptor ${fd}`));
    return duplicates;
  } catch (error) {
    closeAll(duplicates);
    throw error;
  }
}
