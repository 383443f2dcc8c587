import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { isGuildhallError } from '@guildhall/common';
import { footprintOf, parametersOf } from '@guildhall/model/weights';
import { findModel, knownModel, knownNames, mustKnow } from './models.ts';

/** Billions of parameters of the text model, all and for one token, as the cards of the models and their names say. */
const PARAMETERS: [string, number, number][] = [
  ['qwen3.5-397b-a17b', 396.35, 17.35],
  ['qwen3.5-122b-a10b', 122.11, 9.77],
  ['qwen3.5-35b-a3b', 34.66, 3.45],
  ['qwen3-next-80b-a3b', 79.67, 3.87],
  ['qwen3-30b-a3b-2507', 30.53, 3.35],
  ['qwen3-235b-a22b-2507', 235.09, 22.19],
];

describe('published shapes', () => {
  for (const [name, total, active] of PARAMETERS) {
    it(`have the parameters of ${name}`, () => {
      const counts = parametersOf(mustKnow(name).config);
      assert.equal((counts.total / 1e9).toFixed(2), total.toFixed(2));
      assert.equal((counts.active / 1e9).toFixed(2), active.toFixed(2));
    });
  }

  it('have the published bytes of KV and state', () => {
    const of = (name: string) => footprintOf(mustKnow(name).config, 'bf16', 'bf16');
    const kv = {
      'qwen3.5-397b-a17b': 30_720,
      'qwen3.5-122b-a10b': 24_576,
      'qwen3.5-35b-a3b': 20_480,
      'qwen3-next-80b-a3b': 24_576,
      'qwen3-30b-a3b-2507': 98_304,
      'qwen3-235b-a22b-2507': 192_512,
    };
    for (const [name, bytes] of Object.entries(kv)) assert.equal(of(name).kvTokenBytes, bytes, name);
    const big = of('qwen3.5-397b-a17b');
    assert.equal(big.deltaBytes, 188_743_680);
    assert.equal(((big.kvTokenBytes * 262_144) / 1e9).toFixed(2), '8.05');
    assert.equal(big.layers.filter(({ type }) => type === 'full_attention').length, 15);
  });

  it('have experts of three matrices, with the scales of the format', () => {
    const { config } = mustKnow('qwen3.5-397b-a17b');
    const numbers = 3 * 4096 * 1024;
    assert.equal(numbers, 12_582_912);
    assert.equal(footprintOf(config, 'bf16', 'bf16').expertBytes, 2 * numbers);
    // FP8: a byte each, and an F32 scale for 128 of them.
    assert.equal(footprintOf(config, 'fp8', 'bf16').expertBytes, numbers + (numbers / 128) * 4);
    assert.equal(footprintOf(config, 'q4', 'bf16').expertBytes, numbers / 2 + (numbers / 32) * 2);
  });

  it('all parse, and none is found under another name', () => {
    for (const name of knownNames()) assert.equal(knownModel(name.toUpperCase())?.name, name);
    assert.equal(knownModel('constructor'), null);
  });
});

describe('a model flag', () => {
  const home = mkdtempSync(join(tmpdir(), 'guildhall-catalogue-'));
  after(() => rmSync(home, { recursive: true, force: true }));
  const env = { GUILDHALL_HOME: home };

  it('names a shape, with or without its owner', () => {
    assert.equal(findModel('Qwen/Qwen3.5-35B-A3B', env).name, 'qwen3.5-35b-a3b');
    assert.equal(findModel('tiny', env).dir?.endsWith('models/tiny'), true);
  });

  it('names a folder, whose own config counts', () => {
    const dir = join(home, 'qwen3.5-35b-a3b');
    mkdirSync(dir);
    const config = {
      ...mustKnow('qwen3.5-35b-a3b').config.textConfig,
      num_hidden_layers: 8,
      model_type: 'qwen3_5_moe_text',
    };
    writeFileSync(join(dir, 'config.json'), JSON.stringify(config));
    assert.equal(findModel(dir, env).config.numLayers, 8);
    writeFileSync(join(dir, 'config.json'), '{}');
    assert.throws(
      () => findModel(dir, env),
      (err) => isGuildhallError(err) && err.code === 'checkpoint_invalid',
    );
  });

  it('says what there is when it names nothing', () => {
    assert.throws(() => findModel('qwen9', env), /qwen9 is no folder.*qwen3\.5-397b-a17b/);
  });
});
