/** Tells the operator of the service, on stderr, what its supervisor does. */
export function report(text: string): void {
  process.stderr.write(`handover: ${text}\n`);
}
