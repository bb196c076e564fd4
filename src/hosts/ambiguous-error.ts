/** An engine's error after which it is not known whether the question was done. */
export interface AmbiguousError extends Error {
  isAmbiguous: boolean;
}

export function isAmbiguous(error: unknown): boolean {
  return (error as Partial<AmbiguousError>).isAmbiguous === true;
}
