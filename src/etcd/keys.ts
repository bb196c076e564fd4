import { storedName, topicOf, unitOf, wholeName, fromWholeName } from "../hosts/names.js";

/** The names of all keys of a service. A part between two slashes has none itself. */
export class Keys {
  readonly root: string;
  /** The highest fence that may have been given, but by those that have not beaten since. */
  readonly fence: string;
  /** The last number that was given to a process, for its offers. */
  readonly number: string;
  /** Changes whenever something is offered. */
  readonly offerBell: string;
  readonly roleBell: string;

  constructor(service: string) {
    this.root = `/handover/${part(service)}/`;
    this.fence = `${this.root}fence`;
    this.number = `${this.root}number`;
    this.offerBell = `${this.root}bell/all/offer`;
    this.roleBell = `${this.root}bell/all/role`;
  }

  /** Ends with the lease of the seat. */
  seat(seat = ""): string {
    return `${this.root}seat/${seat}`;
  }

  /** The key of a seat that may have left something behind; without a seat the beginning of all such keys. */
  known(seat = ""): string {
    return `${this.root}known/${seat}`;
  }

  bells(): string {
    return `${this.root}bell/all/`;
  }

  /** Changes whenever something has happened to what a seat offers, or has claimed. */
  bell(seat: string): string {
    return `${this.root}bell/seat/${seat}`;
  }

  role(name?: string): string {
    return `${this.root}role/${name === undefined ? "" : part(name)}`;
  }

  units(kind: string): string {
    return `${this.root}unit/${part(kind)}/`;
  }

  allUnits(): string {
    return `${this.root}unit/`;
  }

  unit(kind: string, id: string): string {
    return `${this.units(kind)}${part(id)}`;
  }

  /** The unit that a parcel carries. */
  unitOf(parcel: { readonly kind: string; readonly label: string; readonly id: string }): string | undefined {
    const id = unitOf(parcel);
    return id === undefined ? undefined : `${this.root}unit/${escaped(topicOf(parcel))}/${escaped(id)}`;
  }

  /** What a seat offers: a head, and the state. */
  offer(seat: string, number?: number): string {
    return `${this.root}offer/${seat}/${numbered(number)}`;
  }

  lists(topic?: string): string {
    return `${this.root}list/${topic === undefined ? "" : `${escaped(topic)}/`}`;
  }

  /** The numbers of a lot that no process has claimed, or the number of an offer that is claimed alone. */
  list(topic: string, seat: string, number: number, isAlone: boolean): string {
    return `${this.lists(topic)}${seat}/${numbered(number)}${isAlone ? ALONE : ""}`;
  }

  claim(number?: number): string {
    return `${this.root}claim/${numbered(number)}`;
  }

  /** Who has claimed a lot, by the first of its numbers. */
  lot(seat = "", first?: number): string {
    return `${this.root}lot/${seat === "" ? "" : `${seat}/${numbered(first)}`}`;
  }

  /** That the owner wants it back. Ends with the owner's lease. */
  back(seat?: string, number?: number): string {
    return `${this.root}back/${seat === undefined ? "" : `${seat}/${numbered(number)}`}`;
  }

  /** What is known of an offer of those that had it: refusals and deaths. */
  note(seat: string, number?: number): string {
    return `${this.root}note/${seat}/${numbered(number)}`;
  }

  /** Who has taken offers, by the first of their numbers. */
  done(seat: string, number?: number): string {
    return `${this.root}done/${seat}/${numbered(number)}`;
  }

  /** When an offer ends that its owner may leave behind. */
  expiry(number?: number): string {
    return `${this.root}expiry/${numbered(number)}`;
  }

  /** That an offer that has not arrived must not be made any longer. */
  void(seat: string, draft: string): string {
    return `${this.root}void/${seat}/${draft}`;
  }
}

/** The lease of a seat, which every process that has the seat knows. */
export function leaseOf(seat: string): string {
  return BigInt(`0x${seat.replaceAll("-", "").slice(0, 15)}`).toString();
}

/** A number as a text that is ordered as the number is. */
export function padded(number: number): string {
  return String(number).padStart(16, "0");
}

/** Who owns a unit or a role, with the fence. A name that is not in the key is kept here. */
export function ownedBy(seat: string, fence: number, name?: string): string {
  const whole = name === undefined || storedName(name) === name ? "" : ` ${wholeName(name)}`;
  return `${seat} ${padded(fence)}${whole}`;
}

export function readOwned(value: Buffer): { seat: string; fence: number; name: string | undefined } {
  const [, seat, fence, name] = /^(\S+) (\d+)(?: ([^]*))?$/.exec(value.toString())!;
  return { seat: seat!, fence: Number(fence), name: name === undefined ? undefined : fromWholeName(name) };
}

/** The last part of a key, as it was given. */
export function lastPart(key: string): string {
  return decodeURIComponent(key.slice(key.lastIndexOf("/") + 1));
}

/** The number at the end of a key. */
export function numberOf(key: string): number {
  return Number.parseInt(key.slice(key.lastIndexOf("/") + 1), 10);
}

function numbered(number: number | undefined): string {
  return number === undefined ? "" : padded(number);
}

function part(name: string): string {
  return escaped(storedName(name));
}

function escaped(stored: string): string {
  return stored.replaceAll("%", "%25").replaceAll("/", "%2F");
}

/** Ends the key of a list of an offer that is claimed alone. */
export const ALONE = "+";

/** Stands for the seat of a role that has no holder. */
export const NONE = "-";
