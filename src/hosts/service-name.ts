import { text, wrongOption } from "../util/validation.js";

/**
 * The option `service` of an engine. A database stores no NUL.
 *
 * @throws {HandoverError} `ERR_OPTION`
 */
export function readService(value: unknown): string {
  const service = text("service", value);
  if (service === undefined || service.length > LONGEST_SERVICE || service.includes("\0"))
    throw wrongOption("service", `a name of at most ${LONGEST_SERVICE} characters`, value);
  return service;
}

/** Characters. */
const LONGEST_SERVICE = 200;
