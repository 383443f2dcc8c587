import { readFileSync } from 'node:fs';
import type { z } from 'zod';
import { errorMessage, fail } from './errors.ts';
import { badValue, optionsOf, parseConfigFile, parseOptionText, show, suggest, type OptionInfo } from './options.ts';

/** Where the values of a configuration come from. */
export interface ConfigSources {
  /** Arguments after the program's name. */
  argv: readonly string[];
  env: Record<string, string | undefined>;
  /** Name of the flag that gives the JSON file, without dashes. */
  fileFlag?: string;
  /** Name shown by --help. */
  program?: string;
  /** What --help does with its text; by default prints it and exits with 0. */
  onHelp?: (text: string) => never;
}

interface FlagUse {
  flag: string;
  texts: string[];
}

/**
 * Builds and checks a configuration: defaults, then the JSON file, then `GUILDHALL_*` variables, then flags.
 * Unknown flags and unknown keys of the file are refused; unknown variables are not, since one environment serves
 * several programs. Throws `config_invalid` whose `field` is the option.
 */
export function loadConfig<S extends z.ZodObject>(schema: S, sources: ConfigSources): z.output<S> {
  const options = optionsOf(schema);
  const fileFlag = sources.fileFlag ?? 'config';
  const parsed = parseFlags(options, sources.argv, fileFlag);
  if (parsed.help) (sources.onHelp ?? printHelp)(helpText(schema, sources.program ?? 'guildhall'));
  const from = new Map<string, string>();
  const values: Record<string, unknown> = {};
  const put = (option: OptionInfo, value: unknown, source: string): void => {
    values[option.name] = value;
    from.set(option.name, source);
  };
  if (parsed.file !== null) readFile(options, parsed.file, put);
  for (const option of options) {
    const text = sources.env[option.env];
    if (text !== undefined) put(option, parseOptionText(option, text, option.env), option.env);
  }
  for (const [option, use] of parsed.uses) put(option, flagValue(option, use), use.flag);
  return check(schema, options, values, from);
}

function flagValue(option: OptionInfo, use: FlagUse): unknown {
  const values = use.texts.map((text) => parseOptionText(option, text, use.flag));
  return option.kind === 'array' ? values.flat() : values.at(-1);
}

type Put = (option: OptionInfo, value: unknown, source: string) => void;

function readFile(options: OptionInfo[], path: string, put: Put): void {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (err) {
    throw fail('config_invalid', `${path}: cannot be read: ${errorMessage(err)}`, { field: 'config', cause: err });
  }
  const names = options.map((option) => option.name);
  for (const [key, value] of Object.entries(parseConfigFile(path, text))) {
    const option = options.find((candidate) => candidate.name === key);
    if (option === undefined)
      throw fail('config_invalid', `${path}: unknown key "${key}"${suggest(key, names)}`, { field: key });
    put(option, value, `${path}: ${key}`);
  }
}

interface ParsedFlags {
  uses: Map<OptionInfo, FlagUse>;
  file: string | null;
  help: boolean;
}

function parseFlags(options: OptionInfo[], argv: readonly string[], fileFlag: string): ParsedFlags {
  const parsed: ParsedFlags = { uses: new Map(), file: null, help: false };
  const rest = [...argv];
  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    if (arg === '--help' || arg === '-h') {
      parsed.help = true;
      continue;
    }
    if (!arg.startsWith('--'))
      throw fail('config_invalid', `unexpected argument "${arg}"; options start with --`, { field: null });
    const equals = arg.indexOf('=');
    const flag = equals < 0 ? arg : arg.slice(0, equals);
    const inline = equals < 0 ? null : arg.slice(equals + 1);
    if (flag === `--${fileFlag}`) parsed.file = inline ?? takeValue(flag, rest, 'config');
    else addUse(parsed.uses, options, flag, inline, rest, fileFlag);
  }
  return parsed;
}

function addUse(
  uses: Map<OptionInfo, FlagUse>,
  options: OptionInfo[],
  flag: string,
  inline: string | null,
  rest: string[],
  fileFlag: string,
): void {
  const negated = flag.startsWith('--no-')
    ? options.find((o) => o.kind === 'boolean' && o.flag === `--${flag.slice(5)}`)
    : undefined;
  const option = negated ?? options.find((candidate) => candidate.flag === flag);
  if (option === undefined) {
    const known = [...options.map((o) => o.flag), `--${fileFlag}`, '--help'];
    throw fail('config_invalid', `unknown option ${flag}${suggest(flag, known)}`, { field: flag.replace(/^-+/, '') });
  }
  if (negated !== undefined && inline !== null) throw badValue(option, flag, 'takes no value');
  const use = uses.get(option) ?? { flag, texts: [] };
  use.flag = flag;
  if (negated !== undefined) use.texts.push('false');
  else if (option.kind === 'boolean') use.texts.push(inline ?? 'true');
  else use.texts.push(inline ?? takeValue(flag, rest, option.name));
  uses.set(option, use);
}

function takeValue(flag: string, rest: string[], field: string): string {
  const value = rest[0];
  if (value === undefined || value.startsWith('--'))
    throw fail('config_invalid', `${flag}: a value is missing`, { field });
  rest.shift();
  return value;
}

function check<S extends z.ZodObject>(
  schema: S,
  options: OptionInfo[],
  values: Record<string, unknown>,
  from: Map<string, string>,
): z.output<S> {
  const result = schema.safeParse(values);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const name = String(issue?.path[0] ?? '');
  const option = options.find((candidate) => candidate.name === name);
  if (issue === undefined || option === undefined) {
    throw fail('config_invalid', issue?.message ?? 'invalid configuration', { field: name || null });
  }
  const given = from.get(name);
  if (given === undefined && option.required) {
    throw fail('config_invalid', `${option.flag} is required (or ${option.env}): ${option.description}`, {
      field: name,
    });
  }
  throw badValue(option, given ?? option.flag, `${lowerFirst(issue.message)}, got ${show(option, values[name])}`);
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

function printHelp(text: string): never {
  process.stdout.write(text);
  process.exit(0);
}

function showDefault(option: OptionInfo): string {
  if (option.required) return 'required';
  if (option.default === undefined || option.default === null) return '';
  if (typeof option.default === 'string') return option.default;
  return Array.isArray(option.default) ? option.default.join(',') : JSON.stringify(option.default);
}

function showType(option: OptionInfo): string {
  if (option.choices !== null) return option.choices.join('|');
  if (option.kind === 'array') return `${option.itemKind ?? 'string'}, repeatable`;
  return option.kind;
}

/** Text of --help. */
export function helpText(schema: z.ZodObject, program: string): string {
  const rows = optionsOf(schema).map((option) => {
    const value = option.kind === 'boolean' ? '' : ` <${option.choices?.join('|') ?? option.itemKind ?? option.kind}>`;
    const fallback = showDefault(option);
    const note =
      fallback === '' || fallback === 'false' ? '' : option.required ? ' (required)' : ` (default ${fallback})`;
    return `  ${option.flag}${value}\n      ${option.description}${note}\n`;
  });
  return `Usage: ${program} [options]\n\nOptions:\n${rows.join('')}  --config <file>\n      JSON file of options by their camelCase names.\n
Each option may also be given as GUILDHALL_<NAME>; flags win over variables, variables over the file.\n`;
}

/** One row of docs/config.md. */
export interface ConfigRow {
  name: string;
  flag: string;
  env: string;
  type: string;
  default: string;
  secret: boolean;
  description: string;
}

/** Rows of a schema for documentation. */
export function describeConfig(schema: z.ZodObject): ConfigRow[] {
  return optionsOf(schema).map((option) => ({
    name: option.name,
    flag: option.flag,
    env: option.env,
    type: showType(option),
    default: showDefault(option),
    secret: option.secret,
    description: option.description,
  }));
}

/** The configuration as it may be logged: secrets are replaced. */
export function redactConfig(schema: z.ZodObject, config: Record<string, unknown>): Record<string, unknown> {
  const secrets = new Set(
    optionsOf(schema)
      .filter((option) => option.secret)
      .map((option) => option.name),
  );
  return Object.fromEntries(
    Object.entries(config).map(([name, value]) => [name, secrets.has(name) && value !== null ? '(hidden)' : value]),
  );
}
