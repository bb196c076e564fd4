/** A value that JSON would lose. */
interface LossyValue {
  /** A description: `an instance of Date` */
  what: string;
  /** `$.users[3].born` */
  path: string;
}

/** The first value within `data` that would come back from JSON changed; undefined if there is none. */
export function findLossyValue(data: unknown): LossyValue | undefined {
  const path: (string | number)[] = [];
  const what = visit(data, path, new Set());
  return what === undefined ? undefined : { what, path: formatPath(path) };
}

/**
 * Describes the first lossy value within `value`.
 *
 * @param path the place of `value`; of the lossy value when one was found
 * @param ancestors the objects that contain `value`
 */
function visit(value: unknown, path: (string | number)[], ancestors: Set<object>): string | undefined {
  switch (typeof value) {
    case "string":
    case "boolean":
      return undefined;
    case "number":
      if (Number.isFinite(value) && !Object.is(value, -0)) return undefined;
      return Object.is(value, -0) ? "-0" : String(value);
    case "object":
      return value === null ? undefined : visitObject(value, path, ancestors);
    case "undefined":
      return "undefined";
    default:
      return `a ${typeof value}`;
  }
}

function visitObject(value: object, path: (string | number)[], ancestors: Set<object>): string | undefined {
  if (ancestors.has(value)) return "a cycle";
  if (path.length > DEEPEST) return `a value that is nested more than ${DEEPEST} levels deep`;
  ancestors.add(value);
  const what = Array.isArray(value)
    ? visitItems(value, path, ancestors)
    : visitFields(value, path, ancestors);
  ancestors.delete(value);
  return what;
}

function visitItems(value: unknown[], path: (string | number)[], ancestors: Set<object>): string | undefined {
  if (Object.getPrototypeOf(value) !== Array.prototype) return instanceOf(value);
  for (let n = 0; n < value.length; n++) {
    path.push(n);
    const what = visit(value[n], path, ancestors);
    if (what !== undefined) return what;
    path.pop();
  }
  return Object.keys(value).length > value.length ? "a named field of an array" : undefined;
}

/** JSON leaves out a field that is undefined. It reads the same when it is absent, so it is no loss. */
function visitFields(value: object, path: (string | number)[], ancestors: Set<object>): string | undefined {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return instanceOf(value);
  if (typeof (value as { toJSON?: unknown }).toJSON === "function") return "an object with toJSON()";
  if (Object.getOwnPropertySymbols(value).length > 0) return "a field whose name is a symbol";
  for (const [name, field] of Object.entries(value)) {
    if (field === undefined) continue;
    path.push(name);
    const what = visit(field, path, ancestors);
    if (what !== undefined) return what;
    path.pop();
  }
  return undefined;
}

function instanceOf(value: object): string {
  const name = (value.constructor as { name?: string } | undefined)?.name;
  return name ? `an instance of ${name}` : "an object with a prototype of its own";
}

function formatPath(path: readonly (string | number)[]): string {
  const steps = path.map((step) =>
    typeof step === "string" && /^[A-Za-z_$][\w$]*$/.test(step) ? `.${step}` : `[${JSON.stringify(step)}]`,
  );
  return `$${steps.join("")}`;
}

/** Deeper nesting would make JSON.stringify() run out of stack. */
const DEEPEST = 1_000;
