/** Tells whoever runs the service what its supervisor does. */
export function report(text: string): void {
  process.stderr.write(`handover: ${text}\n`);
}
