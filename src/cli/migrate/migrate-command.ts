import { Command } from "commander";
import { isConnectionString } from "../../postgres/database.js";
import { migrate, migrationText } from "../../postgres/migrate.js";
import { SCHEMA_VERSION } from "../../postgres/schema.js";
import { WrongUsage, writeJson, writeLines, writeText } from "../output.js";

/** `handover migrate` */
export function migrateCommand(): Command {
  return new Command("migrate")
    .summary("make the tables of a service on several hosts")
    .description(
      "Makes the schema handover in a PostgreSQL database, or updates it, for services on several hosts. Run it as a user " +
        "who may create tables. The services themselves need fewer rights, which --dry-run prints.",
    )
    .argument(
      "[url]",
      "the database, as postgres://USER@HOST/DATABASE; default: the environment variable DATABASE_URL",
    )
    .option("--dry-run", "print the statements, and do nothing")
    .option("--json", "print JSON, one object per line")
    .addHelpText("after", EXAMPLES)
    .action(run);
}

const EXAMPLES = `
Examples:
  $ handover migrate --dry-run
  $ handover migrate postgres://owner@db.example/chat

Exit codes: 0 done, 1 failed, 2 wrong usage.`;

async function run(
  url: string | undefined = process.env["DATABASE_URL"],
  { dryRun, json }: { dryRun?: true; json?: true },
): Promise<void> {
  const version = SCHEMA_VERSION;
  if (dryRun) {
    const text = migrationText();
    return json ? writeJson({ answer: "statements", version, text }) : writeLines(text.split("\n"));
  }
  if (url === undefined || url === "")
    throw new WrongUsage(["name the database, as postgres://USER@HOST/DATABASE, or set DATABASE_URL"]);
  // An endpoint of etcd.
  if (/^(?:https?|etcd):/.test(url))
    throw new WrongUsage(["etcd has no schema: there is nothing to migrate"]);
  // It is not repeated, as it may have a password.
  if (!isConnectionString(url))
    throw new WrongUsage(["this is no database: its name must begin with postgres:// or postgresql://"]);
  await migrate({ url });
  return json ? writeJson({ answer: "migrated", version }) : writeText("the schema is up to date");
}
