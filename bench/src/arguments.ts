import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { WEIGHT_FORMATS } from '@guildhall/model/weights';
import { MODEL_NAMES, MODEL_SIZES, type ModelName, type ModelSize } from './models/specs.ts';
import type { BenchOptions } from './suite.ts';
import { SUITES } from './suites.ts';

/** What a command line asks for. */
export interface Arguments {
  suite: string;
  options: BenchOptions;
  only: RegExp | null;
  resume: boolean;
  json: boolean;
  save: boolean;
}

/** Help text. */
export function usage(): string {
  const suites = SUITES.map(({ name, about }) => `  ${name.padEnd(10)} ${about}`).join('\n');
  return `usage: npm run bench -- SUITE [options]

${suites}
  models     only writes the bench models and the peer's files

  --json               one JSON object on stdout instead of a table
  --save               keep the report in bench/results/
  --only REGEX         only rows whose name matches
  --resume             keep the rows that an interrupted run of this commit and these options has measured
  --runs N             timed runs of each measurement (5)
  --threads N          threads of each engine (2)
  --weights A,B        of ${WEIGHT_FORMATS.join(' ')} (those that the suite has figures for)
  --models A,B         of ${MODEL_NAMES.join(' ')} (both)
  --size SIZE          of ${MODEL_SIZES.join(' ')} (bench); small is for trying things out
  --models-dir DIR     where the bench models are kept (.guildhall/bench-models)
  --no-peer            do not run the peer
  --llama-bench PATH   a llama-bench binary to use as the peer where it can measure the cell
`;
}

/** @returns what is asked for, or what is wrong with the command line. */
export function parseArguments(argv: string[], root: string): Arguments | string {
  try {
    const { values, positionals } = parse(argv, root);
    const [suite = ''] = positionals;
    const names = ['models', ...SUITES.map(({ name }) => name)];
    if (positionals.length !== 1 || !names.includes(suite)) return `expected one suite of: ${names.join(' ')}`;
    const options: BenchOptions = {
      root,
      modelsDir: resolve(values['models-dir']),
      size: oneOf('--size', values.size, MODEL_SIZES) as ModelSize,
      models: listOf('--models', values.models, MODEL_NAMES) as ModelName[],
      threads: positive('--threads', values.threads),
      runs: positive('--runs', values.runs),
      weights: values.weights === undefined ? null : listOf('--weights', values.weights, WEIGHT_FORMATS),
      peer: !values['no-peer'],
      llamaBench: values['llama-bench'] === undefined ? null : resolve(values['llama-bench']),
    };
    const only = values.only === undefined ? null : new RegExp(values.only);
    return { suite, options, only, resume: values.resume, json: values.json, save: values.save };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function parse(argv: string[], root: string) {
  return parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      save: { type: 'boolean', default: false },
      only: { type: 'string' },
      resume: { type: 'boolean', default: false },
      runs: { type: 'string', default: '5' },
      threads: { type: 'string', default: '2' },
      weights: { type: 'string' },
      models: { type: 'string', default: MODEL_NAMES.join(',') },
      size: { type: 'string', default: 'bench' },
      'models-dir': { type: 'string', default: join(root, '.guildhall', 'bench-models') },
      'no-peer': { type: 'boolean', default: false },
      'llama-bench': { type: 'string' },
    },
  });
}

function positive(flag: string, value: string): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1) throw new Error(`${flag}: expected a whole number from 1, got ${value}`);
  return number;
}

function oneOf(flag: string, value: string, allowed: readonly string[]): string {
  if (!allowed.includes(value)) throw new Error(`${flag}: expected one of ${allowed.join(' ')}, got ${value}`);
  return value;
}

function listOf(flag: string, value: string, allowed: readonly string[]): string[] {
  return value.split(',').map((item) => oneOf(flag, item, allowed));
}
