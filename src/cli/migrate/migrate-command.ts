import { Command } from "commander";
import { migrate, migrationText } from "../../postgres/migrate.js";
import { WrongUsage, writeText } from "../output.js";

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
  { dryRun }: { dryRun?: true },
): Promise<void> {
  if (dryRun) return writeText(migrationText());
  if (url === undefined || url === "")
    throw new WrongUsage(["name the database, as postgres://USER@HOST/DATABASE, or set DATABASE_URL"]);
  // An endpoint of etcd.
  if (/^https?:/.test(url)) throw new WrongUsage(["etcd has no schema: there is nothing to migrate"]);
  await migrate({ url });
  return writeText("the schema is up to date");
}
