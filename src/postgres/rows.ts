import type { Peer, Refusal } from "../exchange/parcel.js";
import type { Claimed, OfferState, SeatRow } from "../hosts/engine.js";
import { withoutInternals } from "../hosts/host-outbox.js";
import { fromWholeName } from "../hosts/names.js";

export type Row = Record<string, unknown>;

/** What the database answers, as the engine says it. */
export class RowReader {
  /** What is known of seats, for what they offer. */
  readonly #known = new Map<string, Peer>();

  seat(row: Row): SeatRow {
    const about = row["about"] as Peer;
    const seat = String(row["seat"]);
    const { generation, pid, ...rest } = about;
    const peer = { generation, pid, ...rest, seat };
    if (this.#known.size > MOST_KNOWN) this.#known.clear();
    this.#known.set(seat, withoutInternals(peer));
    return {
      ...peer,
      holder: String(row["holder"]),
      draining: row["draining"] === true,
      topics: row["topics"] as string[],
      fence: Number(row["fence"]),
      started: Number(row["started"]),
    };
  }

  offerState(row: Row): OfferState {
    const claimant = row["claimant"] as string | null;
    return {
      number: Number(row["seq"]),
      isGone: row["gone"] === true && row["back"] !== true,
      isBack: row["back"] === true,
      fence: row["fence"] === null ? undefined : Number(row["fence"]),
      by: (row["by"] as string | null) ?? claimant ?? undefined,
      deaths: Number(row["deaths"] ?? 0),
      refusedBy: (row["refused_by"] as string[] | null) ?? [],
      refusal: (row["refusal"] as Refusal | null) ?? undefined,
    };
  }

  claimed(row: Row): Claimed {
    const body = row["body"] as Buffer;
    const seat = String(row["seat"]);
    return {
      number: Number(row["seq"]),
      parcel: {
        kind: String(row["kind"]),
        label: fromWholeName(String(row["label"])),
        id: fromWholeName(String(row["id"])),
        version: Number(row["version"]),
        codec: String(row["codec"]),
        body,
        fds: [],
      },
      fence: Number(row["fence"]),
      seat,
      from: this.#known.get(seat) ?? { generation: 0, pid: 0, seat },
      age: Number(row["age"]),
      isWithdrawn: row["withdrawn"] === true,
    };
  }
}

/** Seats. */
const MOST_KNOWN = 1_000;
