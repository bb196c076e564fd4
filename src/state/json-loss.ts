/** What JSON would lose of a value, and where. */
interface Loss {
  what: string;
  /** `$.users[3].born` */
  path: string;
}

/** The first thing that would not come back from JSON as it was; undefined if all would. */
export function findLossyValue(data: unknown): Loss | undefined {
  const path: (string | number)[] = [];
  const what = look(data, path, new Set());
  return what === undefined ? undefined : { what, path: describe(path) };
}

/** `path` is where it is, and stays there when something is found. */
function look(value: unknown, path: (string | number)[], above: Set<object>): string | undefined {
  switch (typeof value) {
    case "string":
    case "boolean":
      return undefined;
    case "number":
      if (Number.isFinite(value) && !Object.is(value, -0)) return undefined;
      return Object.is(value, -0) ? "-0" : String(value);
    case "object":
      return value === null ? undefined : lookInto(value, path, above);
    case "undefined":
      return "undefined";
    default:
      return `a ${typeof value}`;
  }
}

function lookInto(value: object, path: (string | number)[], above: Set<object>): string | undefined {
  if (above.has(value)) return "a cycle";
  if (path.length > DEEPEST) return `what is nested more than ${DEEPEST} levels deep`;
  above.add(value);
  const what = Array.isArray(value) ? lookAtItems(value, path, above) : lookAtFields(value, path, above);
  above.delete(value);
  return what;
}

function lookAtItems(value: unknown[], path: (string | number)[], above: Set<object>): string | undefined {
  if (Object.getPrototypeOf(value) !== Array.prototype) return instanceOf(value);
  for (let n = 0; n < value.length; n++) {
    path.push(n);
    const what = look(value[n], path, above);
    if (what !== undefined) return what;
    path.pop();
  }
  return Object.keys(value).length > value.length ? "a named field of an array" : undefined;
}

/** A field that is undefined reads the same when it is absent. */
function lookAtFields(value: object, path: (string | number)[], above: Set<object>): string | undefined {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return instanceOf(value);
  if (typeof (value as { toJSON?: unknown }).toJSON === "function") return "an object with toJSON()";
  if (Object.getOwnPropertySymbols(value).length > 0) return "a field whose name is a symbol";
  for (const [name, field] of Object.entries(value)) {
    if (field === undefined) continue;
    path.push(name);
    const what = look(field, path, above);
    if (what !== undefined) return what;
    path.pop();
  }
  return undefined;
}

function instanceOf(value: object): string {
  const name = (value.constructor as { name?: string } | undefined)?.name;
  return name ? `an instance of ${name}` : "an object with a prototype of its own";
}

function describe(path: readonly (string | number)[]): string {
  const steps = path.map((step) =>
    typeof step === "string" && /^[A-Za-z_$][\w$]*$/.test(step) ? `.${step}` : `[${JSON.stringify(step)}]`,
  );
  return `$${steps.join("")}`;
}

/** JSON.stringify, too, runs out of stack some time. */
const DEEPEST = 1_000;
