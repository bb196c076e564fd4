/** Characters of the longest text that is stored or sent: it may be of a program, or have its whole command line. */
const LONGEST = 4_200;

/** The text with at most so many characters; what is left out at its end is shown as an ellipsis. */
export function shorten(text: string, most = LONGEST): string {
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}
