/** The version of {@link MIGRATIONS} that this release needs. A later one is understood, too. */
export const SCHEMA_VERSION = 2;

/** The statements that make the schema, by version. All of them can be run again, on a schema of any of these versions. */
export const MIGRATIONS: readonly string[] = [
  `create schema if not exists handover;
create table if not exists handover.version (
  version int not null
);
create table if not exists handover.seat (
  seat uuid primary key,
  service text not null,
  holder text not null,
  about jsonb not null,
  topics text[] not null,
  draining boolean not null,
  fence bigint not null,
  lease int not null,
  voided text[] not null default '{}',
  started timestamptz not null,
  seen timestamptz not null
);
create index if not exists seat_service on handover.seat (service);
create table if not exists handover.unit (
  service text not null,
  kind text not null,
  id text not null,
  name text not null,
  seat uuid not null,
  fence bigint not null,
  primary key (service, kind, id)
) with (fillfactor = 80);
create index if not exists unit_seat on handover.unit (seat, kind);
create table if not exists handover.offer (
  seq bigint generated always as identity primary key,
  service text not null,
  topic text not null,
  kind text not null,
  label text not null,
  unit text,
  id text not null,
  seat uuid not null,
  key text not null,
  fence bigint not null,
  version int not null,
  codec text not null,
  body bytea not null,
  offered timestamptz not null,
  claimant uuid,
  settled boolean not null default false,
  withdrawn boolean not null default false,
  deaths int not null default 0,
  refused_by uuid[] not null default '{}',
  refusal jsonb,
  expires timestamptz
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);
create index if not exists offer_open on handover.offer (service, topic, seq) where claimant is null;
create table if not exists handover.role (
  service text not null,
  name text not null,
  seat uuid,
  fence bigint not null,
  primary key (service, name)
);`,
  `drop index if exists handover.offer_claimant;
create index if not exists offer_claims on handover.offer (service, claimant, withdrawn) where claimant is not null;
create index if not exists offer_unit on handover.offer (seat, unit);
create index if not exists offer_expires on handover.offer (service, expires) where expires is not null;
create index if not exists offer_settled on handover.offer (service, seq) where settled;
create table if not exists handover.fence (
  service text primary key,
  fence bigint not null
);`,
];

/** What the role of a service needs, also of tables of later versions, and no more; `SERVICE` is to be replaced. */
export const GRANTS = `grant usage on schema handover to SERVICE;
grant select, insert, update, delete on all tables in schema handover to SERVICE;
alter default privileges in schema handover grant select, insert, update, delete on tables to SERVICE;`;
