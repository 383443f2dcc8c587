import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { assertSameResult, runAlone, type PromptResult } from './lib/bits.ts';
import { ModelRunner } from './lib/model-runner.ts';
import { checkpointDir } from './lib/paths.ts';
import { randomIds } from './lib/random.ts';
import {
  fuseExperts,
  readConfig,
  readTensors,
  roundToBf16,
  splitExperts,
  toBf16,
  toF32,
  writeCheckpoint,
  type StoredTensor,
} from './lib/rewrite-checkpoint.ts';

type Tensors = Map<string, StoredTensor>;

const POSITIONS = Int32Array.from([0, 1, 63, 64, 99]);
const scratch = mkdtempSync(join(tmpdir(), 'guildhall-loader-'));
after(() => rmSync(scratch, { recursive: true, force: true }));

async function resultOf(dir: string, weights: 'f32' | 'bf16'): Promise<PromptResult> {
  const runner = await ModelRunner.open('rewritten', { dir, weights });
  return runAlone(runner, randomIds(41, 100, runner.model.vocabularySize), POSITIONS);
}

/** Asserts that two checkpoint directories give the same bits. */
async function assertParity(one: string, other: string, what: string): Promise<void> {
  for (const weights of ['f32', 'bf16'] as const) {
    assertSameResult(await resultOf(other, weights), await resultOf(one, weights), `${what}, ${weights}`);
  }
}

function rewritten(from: string, name: string, tensors: Tensors, shards: number): string {
  const dir = join(scratch, name);
  writeCheckpoint(from, dir, tensors, shards);
  return dir;
}

/** The tensors with `change` applied to those that DeltaNet layers may keep in F32. */
function mapStates(tensors: Tensors, change: (tensor: StoredTensor) => StoredTensor): Tensors {
  const isState = (name: string): boolean => name.endsWith('A_log') || name.endsWith('linear_attn.norm.weight');
  return new Map([...tensors].map(([name, tensor]) => [name, isState(name) ? change(tensor) : tensor]));
}

for (const shards of [1, 5]) {
  test(`fused experts and one by one, in ${shards} file(s), give the same bits`, async () => {
    const from = checkpointDir('q35-base');
    const split = splitExperts(readTensors(from));
    assert.ok(split.has('model.language_model.layers.3.mlp.experts.7.up_proj.weight'));
    await assertParity(from, rewritten(from, `split-${shards}`, split, shards), `q35-base split, ${shards} files`);
  });
}

test('experts one by one and fused give the same bits in a flat text-only checkpoint', async () => {
  const from = checkpointDir('q35-odd');
  const fused = fuseExperts(readTensors(from));
  assert.ok(fused.has('model.layers.0.mlp.experts.gate_up_proj'));
  await assertParity(from, rewritten(from, 'fused', fused, 2), 'q35-odd fused');
});

test('F32 and BF16 A_log and gated norm give the same bits where they hold the same values', async () => {
  const from = checkpointDir('q35-base');
  const rounded = mapStates(readTensors(from), roundToBf16);
  const f32 = rewritten(from, 'state-f32', rounded, 1);
  const bf16 = rewritten(from, 'state-bf16', mapStates(rounded, toBf16), 1);
  await assertParity(f32, bf16, 'BF16 states');
});

test('a BF16 checkpoint stored as F32 gives the same bits', async () => {
  const from = checkpointDir('q3-moe');
  const wide = new Map([...readTensors(from)].map(([name, tensor]) => [name, toF32(tensor)]));
  await assertParity(from, rewritten(from, 'wide', wide, 1), 'q3-moe in F32');
});

test('a nested config with the language-model prefix and a flat one without give the same bits', async () => {
  const from = checkpointDir('q35-base');
  const flat = new Map(
    [...readTensors(from)]
      .filter(([name]) => !name.startsWith('model.visual.') && !name.startsWith('mtp.'))
      .map(([name, tensor]) => [name.replace('model.language_model.', 'model.'), tensor]),
  );
  const dir = rewritten(from, 'flat', flat, 1);
  const text = readConfig(from)['text_config'] as Record<string, unknown>;
  writeFileSync(join(dir, 'config.json'), JSON.stringify({ ...text, architectures: ['Qwen3_5MoeForCausalLM'] }));
  await assertParity(from, dir, 'flat');
});

test('a tied head and a stored copy of the embedding give the same bits', async () => {
  const from = checkpointDir('q35-odd');
  const tensors = readTensors(from);
  const untied = new Map([...tensors, ['lm_head.weight', tensors.get('model.embed_tokens.weight') as StoredTensor]]);
  const dir = rewritten(from, 'untied', untied, 1);
  writeFileSync(join(dir, 'config.json'), JSON.stringify({ ...readConfig(from), tie_word_embeddings: false }));
  await assertParity(from, dir, 'untied');
});
