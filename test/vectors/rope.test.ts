import { test } from 'node:test';
import assert from 'node:assert/strict';
import { parseModelConfig } from '@guildhall/model/weights';
import { assertClose } from './lib/compare.ts';
import { blockFile, checkpointDir, readJson } from './lib/paths.ts';
import { TensorFile } from './lib/tensor-file.ts';

interface RopeCase {
  head_dim: number;
  rope_parameters: Record<string, unknown>;
  rotary_dim: number;
  rope_scale: number;
  freq_axis: number[];
}

const cases = readJson<{ rope: Record<string, RopeCase> }>(blockFile('manifest.json')).rope;
const file = new TensorFile(blockFile('rope.safetensors'));

/** The model's rope settings for a case, read from a config.json like any other. */
function ropeOf(rope: RopeCase) {
  const config = readJson<{ text_config: Record<string, unknown> }>(checkpointDir('q35-base'), 'config.json');
  const text = { ...config.text_config, head_dim: rope.head_dim, rope_parameters: rope.rope_parameters };
  return parseModelConfig('config.json', { ...config, text_config: text }).attention.rope;
}

for (const [name, expected] of Object.entries(cases)) {
  test(`rope ${name}: frequencies, axes and scale equal the reference`, () => {
    const rope = ropeOf(expected);
    assert.equal(rope.rotaryDim, expected.rotary_dim);
    assert.deepEqual([...rope.freqAxis], expected.freq_axis);
    assert.ok(Math.abs(rope.scale - expected.rope_scale) < 1e-12, `scale ${rope.scale}`);
    // At position 262,143 one unit in the last place of a frequency near 1 turns the angle by 0.016, so bits matter;
    // the reference's own power is off by one unit here and there, depending on the CPU.
    const frequencies = file.floats(`${name}.inv_freq`);
    assert.equal(rope.invFreq.length, frequencies.length);
    const different = rope.invFreq.filter((f, j) => f !== frequencies[j]).length;
    assert.ok(different <= frequencies.length / 32, `${different} frequencies differ`);
    for (const [j, f] of frequencies.entries()) {
      assert.ok(
        Math.abs((rope.invFreq[j] as number) - f) <= f * 2 ** -23,
        `frequency ${j}: ${rope.invFreq[j]}, not ${f}`,
      );
    }
  });

  test(`rope ${name}: tables up to position 262,143 with unequal axes equal the reference`, () => {
    const rope = ropeOf(expected);
    const positions = file.ints('positions');
    const tokens = positions.length / 3;
    const frequencies = file.floats(`${name}.inv_freq`);
    const half = frequencies.length;
    const angles = Float32Array.from({ length: tokens * half }, (_, i) => {
      const [t, j] = [Math.floor(i / half), i % half];
      return (positions[(rope.freqAxis[j] as number) * tokens + t] as number) * (frequencies[j] as number);
    });
    const table = (f: (x: number) => number) => angles.map((angle) => f(angle) * rope.scale);
    assertClose(table(Math.cos), file.floats(`${name}.cos`), 1e-6, 'cos');
    assertClose(table(Math.sin), file.floats(`${name}.sin`), 1e-6, 'sin');
  });
}
