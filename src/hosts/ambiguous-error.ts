/** An engine's error after which it is not known whether the question was done. */
export interface AmbiguousError extends Error {
  isAmbiguous: boolean;
}

export function isAmbiguous(error: unknown): boolean {
  return (error as Partial<AmbiguousError>).isAmbiguous === true;
}

/** What was asked in several questions may be done in part, if a later one fails. */
export function markAmbiguous(error: unknown, isDoneInPart: boolean): unknown {
  return isDoneInPart ? Object.assign(error as Error, { isAmbiguous: true }) : error;
}
