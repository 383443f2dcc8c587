import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareFormats } from '../quality/compare.ts';
import { divergence } from '../quality/divergence.ts';
import { evalTexts } from '../quality/texts.ts';

/** Largest mean KL divergence from bf16, in nats a position, and least share of positions with the same first token. */
const BOUNDS = { fp8: [3e-3, 0.98], q8: [1e-3, 0.985], q4: [3e-2, 0.96] } as const;

test('the divergence of known distributions', () => {
  const logs = (...p: number[]): Float32Array => Float32Array.from(p, (value) => Math.log(value) + 3);
  const wanted = 0.5 * Math.log(0.5 / 0.25) + 0.5 * Math.log(0.5 / 0.75);
  assert.ok(Math.abs(divergence(logs(0.5, 0.5), logs(0.25, 0.75)) - wanted) < 1e-6);
  assert.equal(divergence(logs(0.2, 0.8), logs(0.2, 0.8)), 0);
  // Padding of the vocabulary can come in neither.
  assert.ok(Math.abs(divergence(logs(0.5, 0.5, 0), logs(0.25, 0.75, 0)) - wanted) < 1e-6);
  assert.equal(divergence(logs(0.5, 0.5), logs(1, 0)), Infinity);
});

test('quantised weights stay close to bf16 on conversations of the tiny model', async () => {
  const texts = await evalTexts(['chat'], 24);
  const found = await compareFormats(texts, 'bf16', ['fp8', 'q8', 'q4']);
  for (const { weights, all, answers, rows } of found) {
    const [bound, agreement] = BOUNDS[weights as keyof typeof BOUNDS];
    assert.ok(rows === 24 && answers.positions > 300 && all.positions > answers.positions);
    for (const [what, { klMean, sameTop }] of Object.entries({ all, answers })) {
      assert.ok(klMean > 0 && klMean <= bound, `${weights}, ${what}: KL ${klMean}, allowed ${bound}`);
      assert.ok(sameTop >= agreement && sameTop <= 1, `${weights}, ${what}: ${sameTop} the same, wanted ${agreement}`);
    }
  }
  const [fp8, q8, q4] = found.map(({ all }) => all.klMean) as [number, number, number];
  assert.ok(q8 < fp8 && fp8 < q4, `fewer bits are further away: q8 ${q8}, fp8 ${fp8}, q4 ${q4}`);
});
