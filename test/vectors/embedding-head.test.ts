import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadNative } from '@guildhall/native';
import { blockCases, singleSequence } from './lib/block-vectors.ts';
import { assertClose, assertSameBits } from './lib/compare.ts';

for (const { name, spec, file } of blockCases('embedding_and_head')) {
  test(`${name}: embedding rows and masked logits equal the reference`, async () => {
    const native = loadNative();
    const runtime = new native.Runtime({ threads: 1, isa: 'auto', bf16Kernels: 'auto' });
    const ids = file.ints('in.ids');
    const { hidden_size: hidden, vocab, tokenizer_size: tokenizerSize } = spec;
    const step = new native.StepBuffers(runtime, {
      maxTokens: ids.length,
      hidden,
      numExperts: 2,
      topK: 1,
      rowFormat: 'f32',
      maxLogitRows: ids.length,
      vocab,
    });
    const norm = { eps: spec.rms_norm_eps, zeroCentered: spec.zero_centered };
    const embedding = new native.Embedding(runtime, file.source('weights.embed'), 'f32');
    const head = new native.LmHead(
      runtime,
      { hidden, vocab, tokenizerSize, norm, format: 'f32' },
      { norm: file.source('weights.final_norm'), head: file.source('weights.head') },
    );
    step.setBatch({ ...singleSequence(0, ids.length, { mode: 1 }), tokenIds: ids });
    await embedding.forward(step, 'decode');
    assertSameBits(step.hidden(), file.floats('out.hidden'), 'embedding');

    step.setHidden(file.floats('in.scaled'));
    const backwards = Int32Array.from(ids, (_, i) => ids.length - 1 - i);
    await head.forward(step, backwards, 'decode');
    const expected = file.floats('out.logits');
    for (const [i, row] of backwards.entries()) {
      const logits = step.logits.slice(i * vocab, (i + 1) * vocab);
      assertClose(logits, expected.slice(row * vocab, (row + 1) * vocab), 1e-5, `logits of row ${row}`);
      assert.ok(
        logits.subarray(tokenizerSize).every((x) => x === -Infinity),
        'padding ids are masked',
      );
    }
  });
}
