/** ms since 1970 on the database's clock, as the highest 42 bits of a fence: local fences begin in the same way. */
const NOW = "(extract(epoch from clock_timestamp()) * 1000)::bigint";
const NOW_FENCE = `(${NOW} * 1024)`;

/** More than a process gives away between two beats. */
const SKIP = 2 ** 24;

/** Bytes of the bodies that one step claims of one topic, unless the first is larger. */
const LARGEST_STEP = 4 * 1024 * 1024;

/** Characters of the numbers in one message: PostgreSQL takes messages of less than 8,000 bytes. */
const LONGEST_NEWS = 7_000;

/** Rows of each kind that one sweep removes. Their order leads to an index: the table may have many dead rows. */
const MOST_SWEPT = 1_000;

/** Whether the seat of the row `z` lives. `now()` is the start of the statement: none of these is in a longer transaction. */
const ALIVE = "z.seen > now() - z.lease * interval '1 ms'";
const isAlive = (seat: string): string =>
  `exists (select from handover.seat z where z.seat = ${seat} and ${ALIVE})`;

/** Whether the unit `u` is on offer: whoever takes it has its state. Not so after three processes have died with it. */
const OFFERED = `exists (select from handover.offer o where o.seat = u.seat and o.unit = u.id and o.service = u.service
      and o.topic = u.kind and o.deaths < 3)`;

/** Above the fences of all that have claimed an offer of the unit `u`, and have died with it. */
const ABOVE_CLAIMS = `(select max(o.fence) + 1 from handover.offer o where o.seat = u.seat and o.unit = u.id and o.service = u.service
      and o.topic = u.kind)`;

/**
 * Whether a column of the row `row` is as it was when the statement began. A statement that waits sees a row as it is then, but
 * seats as they were: a process that has started since, and has the row, would count as dead.
 */
const isUnchanged = (table: string, row: string, column: string, key: string): string =>
  `${row}.${column} is not distinct from (select was.${column} from handover.${table} was where (${columns("was", key)}) = (${columns(row, key)}))`;
const columns = (row: string, key: string): string => key.replaceAll(/\w+/g, `${row}.$&`);

/** A seat whose lease is nearly over is not renewed: others may have seen that it has ended. */
const RENEWABLE = "s.seen > now() - s.lease * interval '0.8 ms'";

/** A fence that is ahead of the clock would be given again, when the row of its unit has gone. */
const keepFence = (rows: string): string => `insert into handover.fence as f (service, fence)
    select $1, max(r.fence) from ${rows} r having max(r.fence) >= ${NOW_FENCE}
    on conflict (service) do update set fence = greatest(f.fence, excluded.fence)`;

/**
 * The row of {@link keepFence}, before the rows of units that it is kept for are removed. A statement that begins such a unit holds
 * the row as it reads it: with the fence of its snapshot it would give one again that was kept meanwhile.
 */
const lockFence = (condition: string): string =>
  `select f.service from handover.fence f where f.service = $1 and ${condition} for update`;
const readFence = "select f.fence from handover.fence f where f.service = $1 for key share";

const SEAT = `z.seat, z.holder, z.about, z.topics, z.draining, z.fence, (extract(epoch from z.started) * 1000)::bigint as started`;

/** The statements, each one round trip. READ COMMITTED is enough: each row decides for itself, under its lock. */
export const STATEMENTS = {
  version: "select version from handover.version order by version desc limit 1",

  server: `select current_setting('server_version') as version, current_setting('server_version_num')::int as number`,

  time: `select ${NOW} as now`,

  /** $1 seat, $2 service, $3 holder, $4 about, $5 topics, $6 draining, $7 fence, $8 lease, $9 channel */
  enter: `with entered as (
      insert into handover.seat (seat, service, holder, about, topics, draining, fence, lease, started, seen)
      values ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp(), now())
      on conflict (seat) do update set seen = now()
      returning (extract(epoch from started) * 1000)::bigint as started),
    kept as (insert into handover.fence (service, fence) values ($2, 0) on conflict do nothing),
    told as (select pg_notify($9, 'seat') from entered)
    select entered.started, (select count(*) from told) from entered`,

  /** $1 service, $2 seat: the others */
  others: `select ${SEAT} from handover.seat z where z.service = $1 and z.seat <> $2 and ${ALIVE}`,

  /** As `enter`; $10 holders from which it may take over, or null for any */
  beat: `with before as (select s.seat, s.topics, s.draining, s.holder from handover.seat s where s.seat = $1),
    beaten as (
      update handover.seat s set seen = now(), holder = $3, about = $4, topics = $5, draining = $6,
        fence = greatest(s.fence, $7), lease = $8
      where s.seat = $1 and s.service = $2 and ${RENEWABLE} and ($10::text[] is null or s.holder = any ($10))
      returning s.seat),
    told as (select pg_notify($9, 'seat') from beaten join before using (seat)
      where before.topics <> $5 or before.draining <> $6)
    select (select count(*) from beaten)::int as beaten, (select count(*) from told)::int as told`,

  /** $1 seat */
  renew: `update handover.seat s set seen = now() where s.seat = $1 and ${RENEWABLE}`,

  /**
   * $1 seat, $2 channel, $3 service. One whose lease had ended counts as dead with what it had claimed. As long as something of it
   * is left, its row stays for `sweep`, which removes both.
   */
  leave: `with rest as (select exists (select from handover.offer where seat = $1 and unit is not null)
      or exists (select from handover.unit where seat = $1) as is_left),
    gone as (delete from handover.seat using rest where seat = $1 and not rest.is_left returning seat),
    over as (update handover.seat set draining = true, seen = now() - lease * interval '1 ms' from rest
      where seat = $1 and rest.is_left returning seat),
    roles as (update handover.role set seat = null where seat = $1 returning name),
    freed as (
      update handover.offer set claimant = null, deaths = deaths + case when ${isAlive("$1")} then 0 else 1 end
      where service = $3 and claimant = $1 and not settled)
    select pg_notify($2, 'seat') from (select from gone union all select from over) s
      union all select pg_notify($2, 'role') from (select from roles limit 1) r`,

  /** $1 service, $2 channel */
  sweep: `with gone as (select z.seat, z.seen, z.lease from handover.seat z where z.service = $1 and not (${ALIVE})),
    stale as (
      select c.seq from gone, lateral (
        select o.seq from handover.offer o where o.service = $1 and o.claimant = gone.seat and not o.settled
        offset 0 for update skip locked) c),
    freed as (
      update handover.offer o set claimant = null, deaths = o.deaths + 1 from stale where o.seq = stale.seq returning o.seq),
    late as (
      select o.seq from handover.offer o where o.service = $1 and o.expires < now() and o.claimant is null
      order by o.expires limit ${MOST_SWEPT} for update skip locked),
    expired as (delete from handover.offer o using late where o.seq = late.seq),
    known as (
      select o.seq from handover.offer o where o.service = $1 and o.settled and not ${isAlive("o.seat")}
      order by o.seq limit ${MOST_SWEPT} for update skip locked),
    over as (delete from handover.offer o using known where o.seq = known.seq),
    old as (select gone.seat from gone where gone.seen < now() - gone.lease * interval '10 ms'),
    locked as (${lockFence("exists (select from old)")}),
    refused as (
      delete from handover.offer o using old where o.seat = old.seat and (o.unit is not null or o.expires is null)
        and o.claimant is null returning o.fence),
    dead as (
      select z.seat, z.fence from handover.seat z join old using (seat) cross join (select count(*) from locked) l
      where not exists (select from handover.offer o where o.seat = z.seat)
        and not exists (select from handover.offer o where o.service = $1 and o.claimant = z.seat)
      for update of z skip locked),
    lost as (
      delete from handover.unit u using dead where u.seat = dead.seat returning greatest(u.fence, dead.fence + ${SKIP}) as fence),
    kept as (${keepFence("(select fence from lost union all select fence from refused)")}),
    forgotten as (delete from handover.seat z using dead where z.seat = dead.seat)
    select pg_notify($2, 'offer') from freed limit 1`,

  /** $1 service, $2 kind, $3 ids, $4 names, $5 seat, $6 the seat that offers them */
  own: `with kept as (${readFence})
    insert into handover.unit as u (service, kind, id, name, seat, fence)
    select $1, $2, x.id, x.name, $5, greatest(${NOW_FENCE}, kept.fence + 1) from unnest($3::text[], $4::text[]) x (id, name)
      left join kept on true
    on conflict (service, kind, id) do update set seat = $5, fence = greatest(u.fence + 1, excluded.fence, ${ABOVE_CLAIMS},
      (select z.fence + ${SKIP} from handover.seat z where z.seat = u.seat and z.seat <> $5))
    where u.seat = $5 or u.seat = $6
      or not (${isAlive("u.seat")} or ${OFFERED}) and ${isUnchanged("unit", "u", "seat", "service, kind, id")}
    returning u.id, u.fence`,

  /** $1 service, $2 kind, $3 ids */
  owners: `select u.id, u.seat as owner, ${SEAT} from handover.unit u left join handover.seat z on z.seat = u.seat
    where u.service = $1 and u.kind = $2 and u.id = any ($3) and (${ALIVE} or ${OFFERED})`,

  /** $1 service, $2 kind, $3 ids, $4 fences, $5 seat */
  disown: `with locked as (${lockFence(`(select max(x.fence) from unnest($4::bigint[]) x (fence)) >= ${NOW_FENCE}`)}),
    gone as (
      delete from handover.unit u using unnest($3::text[], $4::bigint[]) x (id, fence), (select count(*) from locked) l
      where u.service = $1 and u.kind = $2 and u.id = x.id and u.seat is not distinct from $5 and u.fence <= x.fence
      returning x.fence)
    ${keepFence("gone")}`,

  /** $1 service, $2 kind, $3 seat, $4 limit */
  findOrphans: `select u.name, u.seat, u.fence from handover.unit u where u.service = $1 and u.kind = $2 and u.seat <> $3
      and not (${isAlive("u.seat")} or ${OFFERED}) limit $4`,

  /** $1 service, $2 kind, $3 seat, $4 ids, $5 their seats, $6 their fences */
  takeOrphans: `with free as (
      select u.ctid, u.seat from unnest($4::text[], $5::uuid[], $6::bigint[]) with ordinality x (id, seat, fence, n)
        join handover.unit u on u.service = $1 and u.kind = $2 and u.id = x.id and u.seat = x.seat and u.fence = x.fence
      where not (${isAlive("u.seat")} or ${OFFERED})
      order by x.n for update of u)
    update handover.unit u set seat = $3, fence = greatest(u.fence + 1, ${NOW_FENCE}, ${ABOVE_CLAIMS},
      (select z.fence + ${SKIP} from handover.seat z where z.seat = free.seat))
    from free where u.ctid = free.ctid returning u.name, u.fence`,

  /** $1 service, $2 kind, $3 seat, $4 ids */
  owned: `select u.name, u.fence from handover.unit u
    where u.service = $1 and u.kind = $2 and u.seat = $3 and u.id = any ($4)`,

  /**
   * $1 service, $2 seat, $3 channel, $4 the offers, with the ttl in ms, where each body begins, from 1, and its bytes; $5 all
   * bodies in one; $6 the key of the first. They are JSON: an array of each column would keep the client busy.
   */
  offer: `with open as (
      select z.seat from handover.seat z where z.seat = $2 and ${ALIVE} and not ($6 = any (z.voided)) for share),
    offered as (
      insert into handover.offer (service, topic, kind, label, unit, id, seat, key, fence, version, codec, body, offered, expires)
      select $1, x.topic, x.kind, x.label, x.unit, x.id, $2, x.key,
        greatest(x.fence, u.fence, (select f.fence from handover.fence f where f.service = $1)), x.version, x.codec,
        substring($5::bytea from x.start for x.size), now(),
        now() + x.ttl * interval '1 ms'
      from rows from (json_to_recordset($4::json) as (key text, topic text, kind text, label text, unit text, id text,
        fence bigint, version int, codec text, ttl float8, start int, size int)) with ordinality
        x (key, topic, kind, label, unit, id, fence, version, codec, ttl, start, size, n)
      join open on true
      left join lateral (
        select u.seat, u.fence from handover.unit u where u.service = $1 and u.kind = x.topic and u.id = x.unit offset 0) u on true
      where x.unit is null or u.seat = $2
      order by x.n
      returning key, seq),
    told as (select pg_notify($3, 'offer') from offered limit 1)
    select key, seq, (select count(*) from told) from offered`,

  /** $1 seat, $2 the key of the first: waits for an `offer` that runs, and stops one that is still on its way */
  void: "update handover.seat set voided = array_append(voided, $2) where seat = $1 and not ($2 = any (voided))",

  /** $1 seat, $2 service, $3 keys, $4 topics, $5 units: a unit that is no longer this seat's was taken */
  findOffers: `select x.key, o.seq, u.seat as by, x.unit is not null and u.seat is distinct from $1 as gone
    from unnest($3::text[], $4::text[], $5::text[]) x (key, topic, unit)
    left join lateral (select o.seq from handover.offer o where o.seat = $1 and o.key = x.key offset 0) o on true
    left join lateral (
      select u.seat from handover.unit u where u.service = $2 and u.kind = x.topic and u.id = x.unit offset 0) u on true`,

  /** $1 service, $2 numbers, $3 topics, $4 units, $5 seat */
  look: `select x.seq, o.seq is null or o.settled as gone, o.seq is null and (x.unit is null or u.seat = $5) as back, u.fence, o.claimant, o.withdrawn, o.deaths, o.refused_by, o.refusal, u.seat as by
    from unnest($2::bigint[], $3::text[], $4::text[]) x (seq, topic, unit)
    left join lateral (select o.* from handover.offer o where o.seq = x.seq offset 0) o on true
    left join lateral (
      select u.seat, u.fence from handover.unit u where o.seq is null and u.service = $1 and u.kind = x.topic and u.id = x.unit offset 0) u on true
    where o.seq is null or o.settled or o.deaths > 0 or o.refusal is not null`,

  /** $1 seat, $2 numbers: those that are settled are no longer needed */
  forget: "delete from handover.offer where seq = any ($2) and seat = $1 and settled",

  /**
   * $1 service, $2 seat, $3 numbers, $4 channel. Those who had claimed an offer have had fences that its owner does not know: it
   * gets one above them.
   */
  withdraw: `with back as (
      delete from handover.offer o where o.seq = any ($3) and o.seat = $2 and not o.settled
        and (o.claimant is null or not ${isAlive("o.claimant")}) and ${isUnchanged("offer", "o", "claimant", "seq")}
      returning o.seq, o.topic, o.unit, o.fence + 1 as fence),
    raised as (
      update handover.unit u set fence = greatest(u.fence, b.fence) from back b
      where u.service = $1 and u.kind = b.topic and u.id = b.unit and u.seat = $2),
    kept as (${keepFence("back")}),
    marked as (
      update handover.offer o set withdrawn = true where o.seq = any ($3) and o.seat = $2 and not o.settled
        and not o.withdrawn and ${isAlive("o.claimant")} returning o.claimant),
    told as (select pg_notify($4, m.claimant::text) from (select distinct claimant from marked) m)
    select seq, fence, (select count(*) from told) from back`,

  /** $1 service, $2 seat, $3 channel, $4 settled numbers, $5 topics, $6 limits, $7 least age in ms, $8 numbers to leave out */
  step: `with mine as (
      select o.seq, o.seat, o.topic, o.unit, o.fence from handover.offer o
      where o.seq = any ($4::bigint[]) and o.claimant is not distinct from $2 and not o.withdrawn and not o.settled for update),
    moved as (
      update handover.unit u set seat = $2, fence = greatest(m.fence, u.fence + 1) from mine m
      where u.service = $1 and u.kind = m.topic and u.id = m.unit and u.seat is not distinct from m.seat returning m.seq),
    gone as (
      delete from handover.offer o using moved m where o.seq = m.seq returning o.seq, o.seat),
    kept as (
      update handover.offer o set settled = true, body = '' from mine m where o.seq = m.seq and m.unit is null
      returning o.seq, o.seat),
    done as (select * from gone union all select * from kept),
    wanted as (
      select c.seq from unnest($5::text[], $6::int[]) w (topic, most),
      lateral (
        select o.seq from handover.offer o where o.service = $1 and o.topic = w.topic and o.claimant is null
          and not o.withdrawn and not o.settled and o.deaths < 3 and o.seat <> $2 and not ($2 = any (o.refused_by))
          and not (o.seq = any ($8::bigint[]))
          and o.offered <= now() - $7::float8 * interval '1 ms' and (o.expires is null or o.expires > now())
        order by o.seq limit least(w.most, greatest(1, (
          select count(*) from (select sum(octet_length(q.body)) over (order by q.seq) as total from (
            select p.seq, p.body from handover.offer p where p.service = $1 and p.topic = w.topic and p.claimant is null
            order by p.seq limit w.most) q) r where r.total <= ${LARGEST_STEP})))
        for update skip locked) c),
    claimed as (
      update handover.offer o set claimant = $2, fence = greatest(o.fence + 1, ${NOW_FENCE}) from wanted w
      where o.seq = w.seq returning o.*),
    told as (
      select pg_notify($3, case when length(g.numbers) < ${LONGEST_NEWS} then concat_ws(' ', g.seat, $2, g.numbers) else g.seat::text end)
        from (select seat, string_agg(seq::text, ',') as numbers from gone group by seat) g
      union all
      select pg_notify($3, k.seat::text) from (select distinct seat from kept) k)
    select 'settled' as what, d.seq, null::text as kind, null::text as label, null::text as id, null::int as version,
      null::text as codec, null::bytea as body, null::bigint as fence, null::uuid as seat, null::float8 as age, false as withdrawn
      from done d
    union all
    select 'claimed', c.seq, c.kind, c.label, c.id, c.version, c.codec, c.body, c.fence, c.seat,
      extract(epoch from now() - c.offered)::float8 * 1000, false from claimed c
    union all
    select 'withdrawn', o.seq, null, null, null, null, null, null, null, null, null, true
      from handover.offer o where o.service = $1 and o.claimant = $2 and o.withdrawn
    union all
    select 'told', count(*), null, null, null, null, null, null, null, null, null, false from told
    order by 2`,

  /** $1 service, $2 seat */
  claims: `select o.seq, o.kind, o.label, o.id, o.version, o.codec, o.body, o.fence, o.seat, o.withdrawn,
      extract(epoch from now() - o.offered)::float8 * 1000 as age
    from handover.offer o where o.service = $1 and o.claimant = $2 and not o.settled order by o.seq`,

  /** $1 seat, $2 numbers, $3 refusals, $4 channel, $5 whether the seat may claim them again */
  refuse: `with freed as (
      update handover.offer o set claimant = null,
        refusal = coalesce(x.refusal, o.refusal),
        refused_by = case when x.open then o.refused_by else o.refused_by || $1::uuid end
      from unnest($2::bigint[], $3::jsonb[], $5::boolean[]) x (seq, refusal, open)
      where o.seq = x.seq and o.claimant = $1 and not o.settled returning o.seat),
    owners as (select pg_notify($4, f.seat::text) from (select distinct seat from freed) f),
    others as (select pg_notify($4, 'offer') from (select from freed limit 1) f)
    select (select count(*) from owners), (select count(*) from others)`,

  /** $1 service, $2 name, $3 seat */
  acquire: `insert into handover.role as r (service, name, seat, fence) values ($1, $2, $3, ${NOW_FENCE})
    on conflict (service, name) do update set seat = $3, fence = greatest(r.fence + 1, ${NOW_FENCE},
      (select z.fence + ${SKIP} from handover.seat z where z.seat = r.seat and z.seat <> $3))
    where r.seat is null or r.seat = $3 or not ${isAlive("r.seat")} and ${isUnchanged("role", "r", "seat", "service, name")}
    returning r.fence`,

  /** $1 service, $2 name, $3 seat, $4 fence, $5 channel */
  release: `with released as (
      update handover.role r set seat = null, fence = greatest(r.fence, $4) where r.service = $1 and r.name = $2 and r.seat = $3
      returning r.name)
    select pg_notify($5, 'role') from released`,
} as const;
