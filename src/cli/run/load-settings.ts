import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { HandoverError } from "../../errors.js";
import { checkSupervisorOptions, type SupervisorSettings } from "../../supervisor/settings.js";
import { WrongUsage } from "../output.js";
import {
  DEFAULT_FILE,
  isOfPm2,
  parseConfig,
  readConfigText,
  type ConfigFile,
  type DeclaredService,
} from "./config-file.js";
import { flagOf, optionsOf, type Flags } from "./flags.js";

/** What `handover run` was asked for. */
interface RunRequest {
  settings: SupervisorSettings;
  /** All that a file asks for and handover does not do. */
  notes: string[];
}

/**
 * The settings of a command line, and of its file. The command line wins over the file.
 *
 * @param words the program and its arguments
 * @param here where relative paths begin
 * @throws {WrongUsage} with all faults
 */
export async function loadSettings(
  flags: Flags,
  words: readonly string[],
  here: string,
): Promise<RunRequest> {
  const config = await readConfig(flags, words, here);
  const service = config && chooseService(config, flags.name);
  const given = asUsage(() => optionsOf(flags, words, here));
  const options = { ...service?.options, ...given };
  // The options of Node belong to the program of the file.
  if (words.length > 0) delete options.nodeArgs;
  const { settings, faults } = checkSupervisorOptions(options, config?.directory ?? here);
  const all = [
    ...namedFaults(config),
    ...faults.map(({ option, why }) => {
      const [first = ""] = /^\w+/.exec(option) ?? [];
      const isFlag = service === undefined || first in given;
      return isFlag ? `${flagOf(option)} ${why}` : `${config!.file}: ${service.pathOf(option)} ${why}`;
    }),
  ];
  if (settings === undefined || all.length > 0) throw new WrongUsage(all);
  return { settings, notes: (config?.notes ?? []).map((note) => `${config!.file}: ${note}`) };
}

async function readConfig(
  { config: given, env }: Flags,
  words: readonly string[],
  here: string,
): Promise<ConfigFile | undefined> {
  const file = given === undefined ? findDefault(words, here) : resolve(here, given);
  if (env !== undefined && (file === undefined || !isOfPm2(file))) {
    throw new WrongUsage(["--env chooses variables of a file of PM2: name that by --config"]);
  }
  if (file === undefined) return undefined;
  try {
    if (!isOfPm2(file)) return parseConfig(file, readConfigText(file));
    const { readEcosystem } = await import("./ecosystem-file.js");
    return await readEcosystem(file, here, env);
  } catch (error) {
    throw toUsage(error);
  }
}

/** The file that is read without `--config`; with a program none is. */
function findDefault(words: readonly string[], here: string): string | undefined {
  if (words.length > 0) return undefined;
  const file = resolve(here, DEFAULT_FILE);
  if (existsSync(file)) return file;
  const how = `name a program, as in handover run -- server.js, or --config; there is no ${file}`;
  throw new WrongUsage([how]);
}

/** @throws {WrongUsage} if the file does not say which of its services is meant */
function chooseService(config: ConfigFile, name: string | undefined): DeclaredService {
  const { file, services } = config;
  if (services.length === 0) throw new WrongUsage(namedFaults(config));
  if (services.length === 1) return services[0]!;
  const found = services.filter((one) => one.name !== undefined && one.name === name);
  if (found.length === 1) return found[0]!;
  const names = services.map((one) => one.name ?? "one without a name").join(", ");
  const which = name === undefined ? `has ${services.length} services` : `has no service ${name}`;
  const wrong = `${file} ${which}: ${names}; choose one by --name`;
  throw new WrongUsage([...namedFaults(config), ...(found.length === 0 ? [wrong] : [])]);
}

function namedFaults(config: ConfigFile | undefined): string[] {
  return (config?.faults ?? []).map((fault) => `${config!.file}: ${fault}`);
}

function asUsage<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw toUsage(error);
  }
}

/** Options that cannot be read are wrong usage. */
function toUsage(error: unknown): unknown {
  const isUsage = error instanceof HandoverError && error.code === "ERR_OPTION";
  return isUsage ? new WrongUsage([error.message]) : error;
}
