import assert from 'node:assert/strict';
import { cpSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { assertFails } from '../testing/errors.ts';
import { temporaryDirectory } from '../testing/random-checkpoint.ts';
import { loadGenerationConfig } from './generation-config.ts';

const TINY = join(import.meta.dirname, '../../../../models/tiny');

test('stop ids are the union of all files that name them', () => {
  using dir = temporaryDirectory();
  const write = (name: string, value: unknown): void => writeFileSync(join(dir.path, name), JSON.stringify(value));
  assert.deepEqual(loadGenerationConfig(dir.path).eosIds, []);
  write('generation_config.json', {
    eos_token_id: [12, 11],
    temperature: 0.6,
    top_k: 20,
    top_p: 0.95,
    do_sample: true,
  });
  write('config.json', { eos_token_id: 13, text_config: { eos_token_id: 11 } });
  cpSync(join(TINY, 'tokenizer.json'), join(dir.path, 'tokenizer.json'));
  write('tokenizer_config.json', { eos_token: { content: '<|im_end|>' } });
  const config = loadGenerationConfig(dir.path);
  assert.deepEqual(config.eosIds, [12, 11, 13, 3002]);
  assert.deepEqual([config.temperature, config.topK, config.topP, config.minP], [0.6, 20, 0.95, null]);
  write('tokenizer_config.json', { eos_token: 'not in the vocabulary' });
  assert.deepEqual(loadGenerationConfig(dir.path).eosIds, [12, 11, 13]);
});

test('values of a wrong kind are refused by file and field', () => {
  using dir = temporaryDirectory();
  const refuse = (value: unknown, field: string): void => {
    writeFileSync(join(dir.path, 'generation_config.json'), JSON.stringify(value));
    assertFails(() => loadGenerationConfig(dir.path), 'checkpoint_invalid', 'generation_config.json', field);
  };
  refuse({ eos_token_id: [1, 'x'] }, 'eos_token_id');
  refuse({ temperature: -1 }, 'temperature');
  refuse({ top_k: 1.5 }, 'top_k');
  refuse([], 'a JSON object');
});
