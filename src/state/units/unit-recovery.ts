import { reasonOf } from "../../errors.js";
import type { StateHosts } from "../../exchange/hosts.js";
import type { LiveUnits } from "./live-units.js";
import type { UnitClaims } from "./unit-claims.js";
import type { UnitKind } from "./unit-definition.js";
import type { UnitHost } from "./units.js";

/** The orphans of one kind that become this process's: the program looks for the state of each, and it runs here. */
export class UnitRecovery {
  readonly #kind: UnitKind;
  readonly #host: UnitHost;
  readonly #hosts: StateHosts;
  readonly #units: LiveUnits;
  readonly #claims: UnitClaims;
  /** Resolve when the program has looked. */
  readonly #pending = new Map<string, Promise<void>>();

  constructor(kind: UnitKind, host: UnitHost, hosts: StateHosts, units: LiveUnits, claims: UnitClaims) {
    this.#kind = kind;
    this.#host = host;
    this.#hosts = hosts;
    this.#units = units;
    this.#claims = claims;
    if (kind.definition.recover === undefined) return;
    hosts.directory.orphans(kind.name, (id, fence) => void this.#recover(id, fence));
  }

  /** Resolves when the program has looked for the state of a unit; undefined if it does not look. */
  pending(id: string): Promise<void> | undefined {
    return this.#pending.get(id);
  }

  /** The lease has ended: others may recover the units by the time at which the program finds their states. */
  lose(): void {
    this.#pending.clear();
  }

  async #recover(id: string, fence: number): Promise<void> {
    const { definition, schema, name } = this.#kind;
    let state: unknown;
    const recovering = (async () => {
      state = await definition.recover!(id);
      if (state !== undefined && schema.check?.(state) === false) throw new Error("check returned false");
    })().catch((error: unknown) => {
      const what = `unit ${name} "${id}" is not recovered`;
      process.emitWarning(`${what}: ${reasonOf(error)}`, { code: "HANDOVER_UNIT" });
      state = undefined;
    });
    this.#pending.set(id, recovering);
    await recovering;
    // It may have been lost meanwhile, and be another host's.
    if (this.#pending.get(id) !== recovering || !this.#hosts.isHeld) return;
    this.#pending.delete(id);
    const { drainContext } = this.#host;
    if (this.#units.all.has(id)) return;
    if (state !== undefined && drainContext === undefined) this.#units.begin(id, state, fence);
    // Without its seat, which this process leaves, it is the unit of a dead host again: another one recovers it.
    else if (state === undefined || drainContext?.exchange !== undefined) this.#claims.disown({ id, fence });
  }
}
