import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Random } from '../kernel/random.ts';
import { type GateOptions, SyntheticGate } from './gate.ts';

const OPTIONS: GateOptions = {
  numLayers: 2,
  numExperts: 64,
  topK: 6,
  skew: 1,
  affinity: 0,
  topics: 4,
  topicExperts: 8,
  seed: 1,
};

/** How often each expert of layer 0 is chosen by `tokens` tokens of a topic, most first. */
function counts(gate: SyntheticGate, tokens: number, topic = 0): number[] {
  const random = new Random(2, 'tokens');
  const chosen = new Int32Array(OPTIONS.topK);
  const count = Array.from({ length: OPTIONS.numExperts }, () => 0);
  for (let token = 0; token < tokens; token++) {
    gate.draw(random, 0, topic, chosen, 0);
    assert.equal(new Set(chosen).size, OPTIONS.topK);
    for (const expert of chosen) count[expert] = (count[expert] ?? 0) + 1;
  }
  return count;
}

const sorted = (list: number[]): number[] => [...list].sort((a, b) => b - a);

it('draws different experts, the popular ones more often', () => {
  const [first = 0, second = 0, , tenth = 0] = sorted(counts(new SyntheticGate(OPTIONS), 4000));
  assert.ok(first > second && second > 1.2 * tenth);
  const even = sorted(counts(new SyntheticGate({ ...OPTIONS, skew: 0 }), 4000));
  assert.ok((even[0] ?? 0) < 1.3 * (even.at(-1) ?? 0));
});

it('keeps to the experts of a topic as far as it is told', () => {
  const gate = new SyntheticGate({ ...OPTIONS, affinity: 0.9 });
  const top = (list: number[]): number[] =>
    [...list.keys()].sort((a, b) => (list[b] ?? 0) - (list[a] ?? 0)).slice(0, 6);
  const [one, other] = [top(counts(gate, 1000, 0)), top(counts(gate, 1000, 1))];
  assert.ok(one.filter((expert) => other.includes(expert)).length < 5);
});

it('changes what is popular when it shifts', () => {
  const gate = new SyntheticGate({ ...OPTIONS, skew: 1.5 });
  const before = counts(gate, 2000);
  gate.shift(new Random(3, 'shift'));
  const after = counts(gate, 2000);
  assert.notEqual(before.indexOf(Math.max(...before)), after.indexOf(Math.max(...after)));
});
