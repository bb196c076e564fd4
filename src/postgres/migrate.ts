import { asyncAtCaller } from "../platform/at-caller.js";
import { refuseUnknown } from "../util/validation.js";
import { Connections } from "./connections.js";
import { readDatabase, type Database, type DatabaseOptions } from "./database.js";
import { GRANTS, MIGRATIONS, SCHEMA_VERSION } from "./schema.js";

/** The statements that make the schema of this release, for a database without one or with an earlier one. */
export function migrationText(): string {
  // A later release may have updated the schema meanwhile.
  const record = `delete from handover.version where version < ${SCHEMA_VERSION};
insert into handover.version select ${SCHEMA_VERSION} where not exists (select from handover.version);`;
  const grants = GRANTS.replaceAll(/^/gm, "-- ");
  return [...MIGRATIONS, record, `-- What a service needs:\n${grants}`].join("\n");
}

/**
 * Makes the schema, or updates it. Processes that do so at the same time wait for each other.
 *
 * @throws {HandoverError} `ERR_OPTION`, `ERR_EXCHANGE`
 */
export function migrate(options: DatabaseOptions): Promise<void> {
  return asyncAtCaller({ migrate }, "migrate", () => {
    refuseUnknown("migrate()", options, ["pool", "client", "url"]);
    return migrateAndClose(readDatabase(options));
  });
}

async function migrateAndClose({ open, isOwn }: Database): Promise<void> {
  const connections = new Connections(open, isOwn, MIGRATE_TIMEOUT, undefined);
  try {
    await migrationOf(connections);
  } finally {
    await connections.close();
  }
}

/** In one transaction, as one text without values is. A schema that is as it should be is not touched. */
export async function migrationOf(connections: Connections): Promise<void> {
  const current = await connections
    .query("select version from handover.version")
    .then(({ rows }) => Number(rows[0]?.["version"] ?? 0))
    // There is none.
    .catch(() => 0);
  if (current >= SCHEMA_VERSION) return;
  await connections.query(`select pg_advisory_xact_lock(${LOCK});\n${migrationText()}`);
}

/** The key of the lock. */
const LOCK = 0x68616e64;

/** ms: another process may be at it. */
const MIGRATE_TIMEOUT = 60_000;
