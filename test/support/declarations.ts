import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const declarations = readdirSync("dist", { recursive: true, encoding: "utf8" })
  // The stand-in has the same names, and so have the copies for the package.
  .filter((name) => name.endsWith(".d.ts") && !/^(testing|types|cjs)\b/.test(name))
  .map((name) => readFileSync(join("dist", name), "utf8"));

/** The public members of a class or an interface of the built package, but its constructor. */
export function membersOf(type: string): string[] {
  const start = new RegExp(
    `^(?:export )?(?:declare )?(?:class|interface) ${type}\\b.*\\{\\n([^]*?)^\\}`,
    "m",
  );
  const found = declarations.flatMap((text) => start.exec(text)?.[1] ?? []);
  if (found.length !== 1) throw new Error(`${found.length} declarations of ${type}`);
  const members = [...found[0]!.matchAll(/^ {4}(?:static )?(?:readonly |get )?([a-z]\w*)\??[(<:]/gim)];
  return [...new Set(members.map(([, name]) => name!))].filter((name) => name !== "constructor");
}

/** The members of a union of strings of the built package. */
export function unionOf(type: string): string[] {
  const found = declarations.flatMap((text) => new RegExp(`type ${type} = ([^;]*);`).exec(text)?.[1] ?? []);
  if (found.length !== 1) throw new Error(`${found.length} declarations of ${type}`);
  return [...found[0]!.matchAll(/"([^"]*)"/g)].map(([, value]) => value!);
}
