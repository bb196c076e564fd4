import type { Etcd } from "./etcd.js";
import type { Postgres } from "./postgres.js";

/** What an engine has seen of a unit's parcel. */
export interface RecordedParcel {
  /** Of its state. */
  readonly token: string;
  /** The process that has offered it. */
  readonly offeredBy: number;
  /** Whether that has taken it back. */
  readonly isBack: boolean;
  /** How many processes had died with it when it was removed. */
  readonly deaths: number;
}

/** Lets a database record each parcel, in the transaction that offers or removes it. */
export async function recordInPostgres(server: Postgres): Promise<void> {
  // A process connects with its PID as the name.
  await server.query(`
    create table parcel (seq bigint primary key, token text, offered_by text, removed_by text, deaths int);
    create function record() returns trigger language plpgsql as $$ begin
      if tg_op = 'INSERT' then
        insert into parcel values (new.seq, convert_from(new.body, 'utf8')::jsonb ->> 'token', current_setting('application_name'));
      else
        update parcel set removed_by = current_setting('application_name'), deaths = old.deaths where seq = old.seq;
      end if;
      return null;
    end $$;
    create trigger record after insert or delete on handover.offer for each row execute function record();`);
}

export async function recordOfPostgres(server: Postgres): Promise<RecordedParcel[]> {
  const rows = await server.query("select * from parcel");
  return rows.map(({ token, offered_by: offeredBy, removed_by: removedBy, deaths }) => ({
    token: String(token),
    offeredBy: Number(offeredBy),
    isBack: removedBy === offeredBy,
    deaths: Number(deaths),
  }));
}

/** etcd keeps what was: nothing is compacted in a test. */
export async function recordOfEtcd(server: Etcd, service: string): Promise<RecordedParcel[]> {
  const parcels = new Map<string, { -readonly [K in keyof RecordedParcel]: RecordedParcel[K] }>();
  /** The processes of seats, and the seats that live. */
  const pids = new Map<string, number>();
  const living = new Set<string>();
  const deaths = new Map<string, number>();
  for (const events of await server.history(service)) {
    // What a process takes is removed in the transaction that says who has taken it.
    const isTaken = events.some(({ key, value }) => key.startsWith("done/") && value !== undefined);
    for (const { key, value } of events) {
      const [what, seat, number] = key.split("/") as [string, string, string];
      const name = `${seat}/${number}`;
      if (what === "seat" && value === undefined) living.delete(seat);
      else if (what === "seat") {
        living.add(seat);
        pids.set(seat, (JSON.parse(value!.slice(value!.indexOf(" "))) as { pid: number }).pid);
      } else if (what === "note" && value !== undefined)
        deaths.set(name, (JSON.parse(value) as { deaths: number }).deaths);
      else if (what === "offer" && value !== undefined) {
        const { token } = JSON.parse(value.slice(value.indexOf("\n"))) as { token: string };
        parcels.set(name, { token, offeredBy: pids.get(seat)!, isBack: false, deaths: 0 });
      } else if (what === "offer") {
        const parcel = parcels.get(name)!;
        // Of a seat that is dead another process removes it.
        parcel.isBack = !isTaken && living.has(seat);
        parcel.deaths = deaths.get(name) ?? 0;
      }
    }
  }
  return [...parcels.values()];
}
