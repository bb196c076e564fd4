/** Whether tests that only root can run are skipped. In CI they fail instead. */
export const isSkipped = process.getuid?.() !== 0 && process.env["CI"] === undefined;

/** For the title of such a test. */
export const asRoot = isSkipped ? " (skipped: only root can do that)" : "";
