/** Programs and loads of many experts: arguments are checked by name, and bits are those of blocks and messages. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { isNativeError } from '../ts/index.ts';
import { moe, PROGRAM_LAYERS, programParts } from './model.ts';
import {
  Random,
  assertSameBits,
  batchOf,
  expertWeights,
  makeKv,
  makeRuntime,
  makeStates,
  makeStep,
  native,
  sizes,
} from './support.ts';

// A wrong value of every kind, typed so that it can stand anywhere.
// oxlint-disable-next-line typescript/no-explicit-any
type Anything = any;

/** Asserts that a call throws NATIVE_INVALID_ARGUMENT with a message that starts with the argument's path. */
function refuses(call: () => unknown, path: string): void {
  assert.throws(call, (error: unknown) => {
    assert.ok(isNativeError(error), `not a native error: ${String(error)}`);
    assert.equal(error.code, 'NATIVE_INVALID_ARGUMENT');
    assert.ok(error.message.startsWith(`${path}: `), `${error.message} does not name ${path}`);
    return true;
  });
}

const LAYERS = PROGRAM_LAYERS;
const NO_ROWS = new Int32Array(0);

const BATCH = batchOf([
  { tokens: [3, 1, 4, 1, 5], slot: 0, pages: [2] },
  { tokens: [9], slot: 1, pages: [5] },
]);
const ROWS = Int32Array.of(4, 5);

test('whole and cut programs give the bits of single blocks with messages', async () => {
  const runtime = makeRuntime({ threads: 2 });
  const parts = await programParts(runtime);
  const program = new native.ForwardProgram(runtime, parts);
  const step = makeStep(runtime);
  const pools = { states: makeStates(runtime), kv: makeKv(runtime) };
  const result = () => step.logits.slice(0, ROWS.length * sizes.vocab);

  step.setBatch(BATCH);
  await program.forward(step, pools, 0, LAYERS, ROWS, 'decode');
  const whole = { logits: result(), hidden: step.hidden() };
  for (const slot of [0, 1]) pools.states.reset(slot);
  step.setBatch(BATCH);
  await program.forward(step, pools, 0, 1, NO_ROWS, 'prefill');
  await program.forward(step, pools, 1, LAYERS, ROWS, 'prefill');
  assertSameBits(result(), whole.logits, 'cut');

  for (const slot of [0, 1]) pools.states.reset(slot);
  step.setBatch(BATCH);
  await parts.embedding.forward(step, 'prefill');
  for (const [index, layer] of parts.layers.entries()) {
    await layer.deltaNet?.forward(step, pools.states, 'prefill');
    await layer.attention?.forward(step, pools.kv, 'prefill');
    await layer.gate.forward(step, 'prefill');
    await layer.shared?.forward(step, 'prefill');
    await moe(step, 6, [{ shard: parts.experts, serves: () => true }], 'exact', 'prefill', index);
  }
  await parts.head.forward(step, ROWS, 'prefill');
  assertSameBits(step.hidden(), whole.hidden, 'hidden rows by messages');
  assertSameBits(result(), whole.logits, 'logits by messages');
});

test('ForwardProgram checks its parts', async () => {
  const runtime = makeRuntime();
  const parts = await programParts(runtime);
  const make = (changes: object) => () => new native.ForwardProgram(runtime, { ...parts, ...changes });
  refuses(() => new native.ForwardProgram(null as Anything, parts), 'runtime');
  refuses(() => new native.ForwardProgram(runtime, null as Anything), 'parts');
  for (const field of ['embedding', 'layers', 'head', 'experts']) refuses(make({ [field]: 'x' }), `parts.${field}`);
  refuses(make({ embedding: parts.head }), 'parts.embedding');
  refuses(make({ layers: [] }), 'parts.layers.length');
  refuses(make({ layers: parts.layers.slice(1) }), 'parts.experts');
  const [first, second] = parts.layers as [(typeof parts.layers)[0], (typeof parts.layers)[0]];
  refuses(make({ layers: [first, { ...second, attention: null }] }), 'parts.layers[1]');
  refuses(make({ layers: [{ ...first, attention: second.attention }, second] }), 'parts.layers[0]');
  refuses(make({ layers: [first, { ...second, gate: null }] }), 'parts.layers[1].gate');
  refuses(make({ layers: [first, { ...second, shared: 1 }] }), 'parts.layers[1].shared');
  const other = await programParts(makeRuntime());
  refuses(make({ head: other.head }), 'parts.head');
  refuses(make({ layers: [first, { ...second, shared: other.layers[1]?.shared }] }), 'parts.layers[1].shared');
});

test('a forward of a program checks step, pools, layers, rows and lane', async () => {
  const runtime = makeRuntime();
  const parts = await programParts(runtime);
  const program = new native.ForwardProgram(runtime, parts);
  const step = makeStep(runtime);
  const pools = { states: makeStates(runtime), kv: makeKv(runtime) };
  const refusesRun = (path: string, ...[s, p, first, last, rows, lane]: Anything[]): void =>
    refuses(() => void program.forward(s, p, first, last, rows, lane), path);
  refusesRun('step', step, pools, 0, LAYERS, ROWS, 'decode');
  step.setBatch(BATCH);
  refusesRun('step', null, pools, 0, LAYERS, ROWS, 'decode');
  refusesRun('step', makeStep(makeRuntime()), pools, 0, LAYERS, ROWS, 'decode');
  refusesRun('pools', step, null, 0, LAYERS, ROWS, 'decode');
  refusesRun('pools.kv', step, { ...pools, kv: pools.states }, 0, LAYERS, ROWS, 'decode');
  refusesRun('pools.states', step, { ...pools, states: makeStates(makeRuntime()) }, 0, LAYERS, ROWS, 'decode');
  refusesRun('states', step, { ...pools, states: null }, 0, LAYERS, ROWS, 'decode');
  refusesRun('kv', step, { ...pools, kv: null }, 0, LAYERS, ROWS, 'decode');
  refusesRun('first', step, pools, -1, LAYERS, ROWS, 'decode');
  refusesRun('first', step, pools, LAYERS, LAYERS, ROWS, 'decode');
  refusesRun('last', step, pools, 1, 1, ROWS, 'decode');
  refusesRun('last', step, pools, 0, LAYERS + 1, ROWS, 'decode');
  refusesRun('rowIndex[1]', step, pools, 0, LAYERS, Int32Array.of(0, 6), 'decode');
  refusesRun('logitRows', step, pools, 0, LAYERS, [0], 'decode');
  refusesRun('lane', step, pools, 0, LAYERS, ROWS, 'slow');
  const pending = program.forward(step, pools, 0, LAYERS, ROWS, 'decode');
  refusesRun('step', step, pools, 0, LAYERS, ROWS, 'decode');
  await pending;
  for (let expert = 0; expert < sizes.numExperts; expert++) parts.experts.unload(0, expert);
  await assert.rejects(program.forward(step, pools, 0, LAYERS, ROWS, 'decode'), (error: unknown) => {
    return isNativeError(error) && error.code === 'NATIVE_FAILURE' && /of layer 0 is not held/.test(error.message);
  });
});

test('loadAll checks every expert before it loads one', async () => {
  const runtime = makeRuntime({ threads: 3 });
  const { hidden, numExperts, intermediate } = sizes;
  const options = { numLayers: 2, numExperts, hidden, intermediate, format: 'f32', rowFormat: 'f32' } as const;
  const shard = new native.ExpertShard(runtime, options);
  const random = new Random(8);
  const good = { expert: 0, ...expertWeights(random) };
  refuses(() => void shard.loadAll(2, [good]), 'layer');
  refuses(() => void shard.loadAll(0, 'x' as Anything), 'experts');
  refuses(() => void shard.loadAll(0, [good, { ...good, expert: numExperts }]), 'experts[1].expert');
  refuses(() => void shard.loadAll(0, [good, { ...good, up: null } as Anything]), 'experts[1].up');
  refuses(() => void shard.loadAll(0, [good, { ...good, down: good.gate }]), 'experts[1].down.shape');
  assert.deepEqual(shard.held(0), new Int32Array(0));
  await shard.loadAll(1, []);
  await shard.loadAll(
    1,
    [3, 1, 2].map((expert) => ({ ...good, expert })),
  );
  assert.deepEqual(shard.held(1), Int32Array.of(1, 2, 3));
});
