import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { z } from 'zod';
import { describeConfig, helpText, loadConfig, redactConfig } from './config.ts';
import type { GuildhallError } from './errors.ts';
import { optionsOf } from './options.ts';
import { serviceOptions } from './service-options.ts';

const schema = z.strictObject({
  ...serviceOptions,
  model: z.string().describe('Directory of the checkpoint.'),
  threads: z.int().min(1).max(256).default(2).describe('Threads.'),
  share: z.number().min(0).max(1).default(0.5).describe('Share of memory.'),
  weights: z.enum(['f32', 'bf16']).default('bf16').describe('Weight format.'),
  servedModelName: z.array(z.string().min(1)).default([]).describe('Names.'),
  stopIds: z.array(z.int()).default([]).describe('Ids.'),
  strict: z.boolean().default(true).describe('Strict.'),
});

const dir = mkdtempSync(join(tmpdir(), 'guildhall-config-'));
after(() => rmSync(dir, { recursive: true }));

function file(content: unknown): string {
  const path = join(dir, `${Math.random()}.json`);
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}

function load(argv: string[], env: Record<string, string> = {}): z.output<typeof schema> {
  return loadConfig(schema, { argv, env });
}

function refusal(argv: string[], env: Record<string, string> = {}): [string, string | null, string] {
  try {
    load(argv, env);
  } catch (err) {
    const { code, field, message } = err as GuildhallError;
    return [code, field, message];
  }
  return assert.fail('expected a refusal');
}

test('flags win over variables, variables over the file, the file over defaults', () => {
  const path = file({ model: 'from-file', threads: 3, share: 0.1 });
  const env = { GUILDHALL_THREADS: '4', GUILDHALL_SHARE: '0.2' };
  const config = load(['--config', path, '--share=0.3'], env);
  assert.deepEqual([config.model, config.threads, config.share, config.weights], ['from-file', 4, 0.3, 'bf16']);
});

test('booleans, arrays and nulls have their spellings', () => {
  const config = load(
    [
      '--model',
      'm',
      '--no-strict',
      '--parent-pipe',
      '--served-model-name',
      'a,b',
      '--served-model-name',
      'c',
      '--stop-ids=1,-2',
    ],
    { GUILDHALL_ID: '' },
  );
  assert.equal(config.strict, false);
  assert.equal(config.parentPipe, true);
  assert.deepEqual(config.servedModelName, ['a', 'b', 'c']);
  assert.deepEqual(config.stopIds, [1, -2]);
  assert.equal(config.id, null);
});

test('mistakes are refused by name, with a suggestion where one is near', () => {
  assert.deepEqual(refusal(['--model', 'm', '--thread', '3']), [
    'config_invalid',
    'thread',
    'unknown option --thread, did you mean --threads?',
  ]);
  assert.deepEqual(refusal(['--model', 'm', '--threads', '0']).slice(0, 2), ['config_invalid', 'threads']);
  assert.deepEqual(refusal(['--model', 'm', '--threads', '2x'])[2], '--threads: expected a number, got "2x"');
  assert.deepEqual(
    refusal(['--model', 'm'], { GUILDHALL_THREADS: 'many' })[2],
    'GUILDHALL_THREADS: expected a number, got "many"',
  );
  assert.deepEqual(refusal(['--model', 'm', '--weights', 'q4']).slice(0, 2), ['config_invalid', 'weights']);
  assert.deepEqual(refusal([]).slice(0, 2), ['config_invalid', 'model']);
  assert.match(refusal([])[2], /--model is required \(or GUILDHALL_MODEL\)/);
  assert.match(refusal(['--model'])[2], /--model: a value is missing/);
  assert.match(refusal(['model'])[2], /unexpected argument "model"/);
  assert.match(refusal(['--model', 'm', '--no-strict=true'])[2], /takes no value/);
  assert.match(refusal(['--model', 'm', '--strict=maybe'])[2], /expected true or false/);
});

test('files are refused when missing, not JSON, not an object, with an unknown key or a wrong type', () => {
  assert.match(refusal(['--config', join(dir, 'nowhere')])[2], /cannot be read/);
  assert.match(refusal(['--config', file('{ "model": ')])[2], /not valid JSON/);
  assert.match(refusal(['--config', file([1])])[2], /expected a JSON object/);
  const path = file({ model: 'm', treads: 3 });
  assert.deepEqual(refusal(['--config', path]), [
    'config_invalid',
    'treads',
    `${path}: unknown key "treads", did you mean threads?`,
  ]);
  assert.deepEqual(refusal(['--config', file({ model: 'm', threads: '3' })]).slice(0, 2), [
    'config_invalid',
    'threads',
  ]);
});

test('a secret is never printed', () => {
  const token = 'aGreatSecret';
  assert.doesNotMatch(refusal(['--model', 'm', '--cluster-token', 'short'])[2], /short/);
  const config = load(['--model', 'm', '--cluster-token', token]);
  assert.doesNotMatch(JSON.stringify(redactConfig(schema, config)), /aGreatSecret/);
  assert.equal(config.clusterToken, token);
});

test('--help lists every option with its description', () => {
  assert.throws(
    () =>
      loadConfig(schema, {
        argv: ['--help'],
        env: {},
        onHelp: (text) => {
          throw new RangeError(text);
        },
      }),
    (err: RangeError) =>
      describeConfig(schema).every((row) => err.message.includes(row.flag) && err.message.includes(row.description)),
  );
  assert.match(helpText(schema, 'guildhall-x'), /^Usage: guildhall-x/);
});

test('every shared option is described and spelt three ways', () => {
  for (const option of optionsOf(z.strictObject(serviceOptions))) {
    assert.ok(option.description.length > 10, option.name);
    assert.match(option.flag, /^--[a-z]+(-[a-z]+)*$/);
    assert.match(option.env, /^GUILDHALL_[A-Z]+(_[A-Z]+)*$/);
  }
  const token = describeConfig(schema).find((row) => row.name === 'clusterToken');
  assert.deepEqual([token?.flag, token?.env, token?.secret], ['--cluster-token', 'GUILDHALL_CLUSTER_TOKEN', true]);
});

test('no argument list makes it fail with anything but a config error', () => {
  const word = fc.oneof(
    fc.string(),
    fc.constantFrom('--model', '--threads', '--no-strict', '--config', '--x=', '--', '-', '--=', '--no-'),
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 6 }), (argv) => {
      fc.pre(!argv.includes('--help') && !argv.includes('-h'));
      try {
        load(argv);
      } catch (err) {
        assert.equal((err as GuildhallError).code, 'config_invalid');
      }
    }),
  );
});
