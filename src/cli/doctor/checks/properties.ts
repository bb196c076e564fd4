import type { Facts } from "../facts.js";

/** A property of the unit; empty if it is not set, or unknown to this systemd. */
export function property({ unit }: Facts, name: string): string {
  return unit?.properties.get(name) ?? "";
}

/** Whether two paths name the same file: systemd writes /run for /var/run. */
export function sameFile(one: string, other: string | undefined): boolean {
  return one.replace(/^\/var\/run\//, "/run/") === other?.replace(/^\/var\/run\//, "/run/");
}
