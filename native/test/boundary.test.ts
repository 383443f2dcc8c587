/** The addon's surface: its names, and that every argument is checked by name before native code trusts it. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { EXPORT_NAMES, isNativeError } from '../ts/index.ts';
import type { KvFormat, NativeBinding } from '../ts/index.ts';
import { header } from './model.ts';
import {
  Random,
  attentionSpec,
  attentionWeights,
  batchOf,
  deltaNetSpec,
  deltaNetWeights,
  expertWeights,
  gateSpec,
  gateWeights,
  headSpec,
  headWeights,
  makeKv,
  makeRuntime,
  makeStates,
  makeStep,
  native,
  samplerParams,
  sharedSpec,
  sharedWeights,
  sizes,
  weight,
} from './support.ts';

/** Asserts that a call throws NATIVE_INVALID_ARGUMENT with a message that starts with the argument's path. */
function refuses(call: () => unknown, path: string): void {
  assert.throws(call, (error: unknown) => {
    assert.ok(isNativeError(error), `not a native error: ${String(error)}`);
    assert.ok(error instanceof TypeError || error instanceof RangeError, `${error.name}: ${error.message}`);
    assert.equal(error.code, 'NATIVE_INVALID_ARGUMENT');
    assert.ok(error.message.startsWith(`${path}: `), `${error.message} does not name ${path}`);
    return true;
  });
}

// A wrong value of every kind, typed so that it can stand anywhere.
// oxlint-disable-next-line typescript/no-explicit-any
type Anything = any;
const wrongKinds: Anything[] = [undefined, null, 'x', {}, [], Symbol('x'), () => 1];

/** For each field of an object: missing, and of the wrong kind. */
function refusesFields<T extends object>(
  object: T,
  path: string,
  call: (bent: T) => unknown,
  nullable: string[] = [],
): void {
  for (const key of Object.keys(object)) {
    for (const wrong of wrongKinds) {
      if (wrong === null && nullable.includes(key)) continue;
      const current = (object as Record<string, unknown>)[key];
      if (typeof wrong === typeof current && wrong !== null && typeof wrong === 'string') continue;
      assert.throws(
        () => call({ ...object, [key]: wrong }),
        (error: unknown) => {
          assert.ok(isNativeError(error), `${path}.${key} = ${String(wrong)}: ${String(error)}`);
          assert.equal(error.code, 'NATIVE_INVALID_ARGUMENT');
          assert.ok(error.message.startsWith(`${path}.${key}`), `${error.message} does not name ${path}.${key}`);
          return true;
        },
      );
    }
  }
}

const runtime = makeRuntime();
const random = new Random(1);

test('exports have the declared names in the declared order', () => {
  assert.deepEqual(Object.keys(native), [...EXPORT_NAMES]);
  const source = readFileSync(new URL('../ts/native.ts', import.meta.url), 'utf8');
  const body = /export interface NativeBinding \{([\s\S]*)\n\}/.exec(source)?.[1] ?? '';
  const declared = [...body.matchAll(/^ {2}(\w+)[:(]/gm)].map((match) => match[1]);
  assert.deepEqual(declared, [...EXPORT_NAMES]);
});

test('methods and properties of classes are the declared ones', () => {
  const read = (name: string) => readFileSync(new URL(`../ts/${name}`, import.meta.url), 'utf8');
  const source = read('native.ts') + read('pools.ts');
  const instances: Record<string, object> = {
    Runtime: runtime,
    KvPool: makeKv(runtime),
    StatePool: makeStates(runtime),
    StepBuffers: makeStep(runtime),
    ExpertShard: new native.ExpertShard(runtime, shardOptions()),
    SamplerState: new native.SamplerState(5, samplerParams, new Int32Array(0)),
  };
  for (const [name, instance] of Object.entries(instances)) {
    const body = new RegExp(`export interface ${name} \\{([\\s\\S]*?)\\n\\}`).exec(source)?.[1] ?? '';
    const declared = [...body.matchAll(/^ {2}(?:readonly )?(\w+)[:(]/gm)].map((match) => match[1] ?? '');
    assert.ok(declared.length > 1, name);
    for (const member of declared) assert.ok(member in instance, `${name}.${member} is missing`);
  }
});

function shardOptions() {
  const { hidden, numExperts, intermediate } = sizes;
  return { numLayers: 2, numExperts, hidden, intermediate, format: 'f32' as const, rowFormat: 'f32' as const };
}

test('Runtime checks its options', () => {
  const options = { threads: 1, isa: 'auto' as const, bf16Kernels: 'auto' as const };
  refusesFields(options, 'options', (bent) => new native.Runtime(bent));
  refuses(() => new native.Runtime(null as Anything), 'options');
  refuses(() => new native.Runtime({ ...options, threads: 0 }), 'options.threads');
  refuses(() => new native.Runtime({ ...options, threads: 1.5 }), 'options.threads');
  refuses(() => new native.Runtime({ ...options, threads: Number.NaN }), 'options.threads');
  refuses(() => new native.Runtime({ ...options, isa: 'sse' as Anything }), 'options.isa');
  refuses(() => new native.Runtime({ ...options, bf16Kernels: 'f32' as Anything }), 'options.bf16Kernels');
  refuses(() => new native.Runtime({ ...options, isa: 'scalar', bf16Kernels: 'bf16-dot' }), 'options.bf16Kernels');
  refuses(() => runtime.kernelFamily('f16' as Anything), 'format');
  refuses(() => runtime.kvKernel('q8' as Anything), 'format');
});

test('mapFile checks descriptor and length', () => {
  refuses(() => native.mapFile('x' as Anything, 1), 'fd');
  refuses(() => native.mapFile(-1, 1), 'fd');
  refuses(() => native.mapFile(1_000_000, 1), 'fd');
  refuses(() => native.mapFile(0, 0), 'length');
});

test('KvPool checks options, pages and data', () => {
  const options = { numPages: 4, numLayers: 1, numKvHeads: 2, headDim: 8, format: 'f32' as const };
  refusesFields(options, 'options', (bent) => new native.KvPool(runtime, bent));
  refuses(() => new native.KvPool({} as Anything, options), 'runtime');
  refuses(() => new native.KvPool(makeKv(runtime) as Anything, options), 'runtime');
  refuses(() => new native.KvPool(runtime, { ...options, numPages: 0 }), 'options.numPages');
  refuses(() => new native.KvPool(runtime, { ...options, headDim: -1 }), 'options.headDim');
  const pool = new native.KvPool(runtime, options);
  refuses(() => pool.copyPages(Int32Array.of(0), Int32Array.of(4)), 'to[0]');
  refuses(() => pool.copyPages(Int32Array.of(-1), Int32Array.of(1)), 'from[0]');
  refuses(() => pool.copyPages(Int32Array.of(1, 2), Int32Array.of(1)), 'to');
  refuses(() => pool.copyPages([0] as Anything, Int32Array.of(1)), 'from');
  const two = Int32Array.of(0, 3);
  refuses(() => void pool.exportPages(Int32Array.of(0, 4), 1), 'pages[1]');
  refuses(() => void pool.exportPages([0] as Anything, 1), 'pages');
  refuses(() => void pool.exportPages(two, 3), 'pages');
  refuses(() => void pool.exportPages(two, 0), 'group');
  const bytes = (pages: number) => new Uint8Array(pages * pool.pageBytes);
  refuses(() => void pool.importPages(Int32Array.of(-1), [bytes(1)]), 'pages[0]');
  refuses(() => void pool.importPages(two, bytes(1) as Anything), 'parts');
  refuses(() => void pool.importPages(two, []), 'parts');
  refuses(() => void pool.importPages(two, [bytes(1), bytes(1), bytes(1)]), 'parts');
  refuses(() => void pool.importPages(new Int32Array(0), [bytes(0)]), 'parts');
  refuses(() => void pool.importPages(two, [bytes(1)]), 'parts[0]');
  refuses(() => void pool.importPages(two, [bytes(1), bytes(1).subarray(1)]), 'parts[1]');
  refuses(() => void pool.importPages(two, [bytes(1), new Float32Array(pool.pageBytes / 4) as Anything]), 'parts[1]');
  refuses(() => void pool.importPages(two, [resizable(2 * pool.pageBytes)]), 'parts[0]');
  refuses(() => void pool.importPages(two, [detached(2 * pool.pageBytes)]), 'parts[0]');
});

/** Bytes whose memory may be given back at any time. */
function resizable(size: number): Uint8Array {
  return new Uint8Array(new ArrayBuffer(size, { maxByteLength: size }));
}

function detached(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  return bytes;
}

test('pages of fp8 hold a byte for each number and two factors for each token and head', () => {
  const { isa, bf16Kernels } = runtime.info;
  assert.equal(runtime.kvKernel('f32'), 'fma');
  if (isa !== 'avx512' || bf16Kernels !== 'bf16-dot') assert.equal(runtime.kvKernel('bf16'), 'fma');
  const options = { numPages: 2, numLayers: 3, numKvHeads: 2, headDim: 32 };
  const bytes = (format: KvFormat) => new native.KvPool(runtime, { ...options, format }).pageBytes;
  const elements = 3 * 2 * 2 * 32 * 64;
  assert.deepEqual([bytes('f32'), bytes('bf16')], [4 * elements, 2 * elements]);
  assert.equal(bytes('fp8'), elements + 3 * 2 * 2 * 64 * 4);
});

test('StatePool checks options, slots and data', () => {
  const options = {
    numSlots: 2,
    numLayers: 1,
    numValueHeads: 2,
    keyHeadDim: 4,
    valueHeadDim: 4,
    convDim: 24,
    convKernel: 4,
  };
  refusesFields(options, 'options', (bent) => new native.StatePool(runtime, bent));
  refuses(() => new native.StatePool(runtime, { ...options, convKernel: 1 }), 'options.convKernel');
  const pool = new native.StatePool(runtime, options);
  refuses(() => pool.reset(2), 'slot');
  refuses(() => pool.copy(0, 2), 'to');
  refuses(() => pool.copy(-1, 0), 'from');
  refuses(() => void pool.exportState(0.5), 'slot');
  refuses(() => void pool.importState(2, new Uint8Array(pool.slotBytes)), 'slot');
  refuses(() => void pool.importState(0, new Uint8Array(3)), 'data');
  refuses(() => void pool.importState(0, resizable(pool.slotBytes)), 'data');
  refuses(() => void pool.importState(0, detached(pool.slotBytes)), 'data');
});

test('StepBuffers checks options, batches, dispatch and replies', async () => {
  const { maxTokens, hidden, numExperts, topK, maxLogitRows, vocab } = sizes;
  const options = { maxTokens, hidden, numExperts, topK, rowFormat: 'f32' as const, maxLogitRows, vocab };
  refusesFields(options, 'options', (bent) => new native.StepBuffers(runtime, bent));
  refuses(() => new native.StepBuffers(runtime, { ...options, topK: numExperts + 1 }), 'options.topK');
  const step = new native.StepBuffers(runtime, options);
  const batch = batchOf([{ tokens: [1, 2, 3], slot: 0, pages: [0] }]);
  refusesFields(batch, 'spec', (bent) => step.setBatch(bent));
  refuses(() => step.setBatch({ ...batch, tokenIds: new Uint32Array(3) as Anything }), 'spec.tokenIds');
  refuses(() => step.setBatch({ ...batch, tokenIds: Int32Array.of(1, 2, vocab) }), 'spec.tokenIds[2]');
  refuses(() => step.setBatch({ ...batch, contextLen: Int32Array.of(5) }), 'spec.contextLen[0]');
  refuses(() => step.setBatch({ ...batch, initState: Int32Array.of(0) }), 'spec.initState[0]');
  refuses(() => step.setBatch({ ...batch, snapshotSlot: Int32Array.of(0) }), 'spec.snapshotRows[0]');
  const cut = { ...batch, mode: Int32Array.of(1), snapshotRows: Int32Array.of(3) };
  refuses(() => step.setBatch({ ...cut, snapshotSlot: Int32Array.of(0) }), 'spec.snapshotSlot[0]');
  step.setBatch(batch);
  assert.equal(step.numTokens, 3);
  refuses(() => step.setHidden(new Float32Array(3)), 'rows');
  refuses(() => step.setHidden([1] as Anything), 'rows');
  refuses(() => step.beginCombine(), 'step');
  refuses(() => void step.combine('decode'), 'step');
  refuses(() => void step.combine('fast' as Anything), 'lane');

  await new native.MoeGate(runtime, gateSpec('f32'), gateWeights(random)).forward(step, 'decode');
  const args = [Int32Array.of(0), Int32Array.of(1), Int32Array.of(2), Float32Array.of(1)] as const;
  refusesFields(header, 'header', (bent) => step.packForward(bent, ...args), ['traceparent']);
  refuses(() => step.packForward({ ...header, routerIncarnation: -1n }, ...args), 'header.routerIncarnation');
  refuses(() => step.packForward({ ...header, step: 2 ** 32 }, ...args), 'header.step');
  refuses(() => step.packForward({ ...header, traceparent: 'short' }, ...args), 'header.traceparent');
  refuses(() => step.packForward(header, Int32Array.of(3), args[1], args[2], args[3]), 'rowIndex[0]');
  refuses(() => step.packForward(header, args[0], args[1], Int32Array.of(numExperts), args[3]), 'experts[0]');
  refuses(() => step.packForward(header, args[0], args[1], args[2], new Float64Array(1) as Anything), 'weights');
  step.beginCombine();
  refuses(() => step.unpackReply(new Uint8Array(3), Int32Array.of(0), Int32Array.of(1), 'exact'), 'reply');
  refuses(() => step.unpackReply('x' as Anything, Int32Array.of(0), Int32Array.of(1), 'exact'), 'reply');
  refuses(() => step.unpackReply(new Uint8Array(3), Int32Array.of(0), Int32Array.of(1), 'sum' as Anything), 'mode');
  refuses(() => void step.combine('decode'), 'step');
  assert.equal(step.missing(), 3 * topK);
});

type Maker = (spec: Anything, weights: Anything) => unknown;
const blocks: [name: string, make: Maker, spec: object, weights: object][] = [
  ['GatedDeltaNet', (s, w) => new native.GatedDeltaNet(runtime, s, w), deltaNetSpec('f32'), deltaNetWeights(random)],
  [
    'GatedAttention',
    (s, w) => new native.GatedAttention(runtime, s, w),
    attentionSpec('f32'),
    attentionWeights(random),
  ],
  ['MoeGate', (s, w) => new native.MoeGate(runtime, s, w), gateSpec('f32'), gateWeights(random)],
  ['SharedExpert', (s, w) => new native.SharedExpert(runtime, s, w), sharedSpec('f32'), sharedWeights(random)],
  ['LmHead', (s, w) => new native.LmHead(runtime, s, w), headSpec('f32'), headWeights(random)],
];

for (const [name, make, spec, weights] of blocks) {
  test(`${name} checks its spec and its weights`, () => {
    make(spec, weights);
    refusesFields(spec, 'spec', (bent) => make(bent, weights));
    refusesFields(weights, 'weights', (bent) => make(spec, bent));
    for (const [key, value] of Object.entries(spec)) {
      if (typeof value === 'number') refusesNear(() => make({ ...spec, [key]: -1 }, weights), 'spec.');
    }
    for (const [key, source] of Object.entries(weights) as [string, ReturnType<typeof weight>][]) {
      const path = `weights.${key}`;
      refusesFields(source, path, (bent) => make(spec, { ...weights, [key]: bent }), ['scale', 'rows']);
      const [rows, cols] = source.shape;
      const bend = (change: object) => () => make(spec, { ...weights, [key]: { ...source, ...change } });
      refuses(bend({ shape: [rows + 1, cols] }), `${path}.data`);
      refuses(bend({ shape: [rows + 1, cols], data: new Uint8Array((rows + 1) * cols * 4) }), `${path}.shape`);
      refuses(bend({ shape: [rows] }), `${path}.shape`);
      refuses(bend({ shape: [rows, 'x'] }), `${path}.shape[1]`);
      refuses(bend({ data: new Float32Array(rows * cols) }), `${path}.data`);
      refuses(bend({ dtype: 'I8' }), `${path}.dtype`);
      refuses(bend({ rows: Int32Array.of(rows) }), `${path}.rows[0]`);
      refuses(bend({ rows: new Int32Array(0) }), `${path}.rows`);
      const scale = { dtype: 'F32', data: new Uint8Array(4), shape: [9, 9] };
      refuses(bend({ scale }), `${path}.scale.shape`);
    }
  });
}

function refusesNear(call: () => unknown, prefix: string): void {
  assert.throws(call, (error: unknown) => isNativeError(error) && error.message.startsWith(prefix));
}

test('forwards check step, pools, lanes and the owner', async () => {
  const step = makeStep(runtime);
  const gdn = new native.GatedDeltaNet(runtime, deltaNetSpec('f32'), deltaNetWeights(random));
  const attention = new native.GatedAttention(runtime, attentionSpec('f32'), attentionWeights(random));
  const head = new native.LmHead(runtime, headSpec('f32'), headWeights(random));
  const states = makeStates(runtime);
  const kv = makeKv(runtime);
  refuses(() => void gdn.forward(step, states, 'decode'), 'step');
  step.setBatch(batchOf([{ tokens: [1], slot: 0, pages: [0] }]));
  refuses(() => void gdn.forward(null as Anything, states, 'decode'), 'step');
  refuses(() => void gdn.forward(step, kv as Anything, 'decode'), 'states');
  refuses(() => void gdn.forward(step, states, 'slow' as Anything), 'lane');
  refuses(() => void attention.forward(step, states as Anything, 'decode'), 'kv');
  refuses(() => void head.forward(step, Int32Array.of(1), 'decode'), 'rowIndex[0]');
  refuses(() => void head.forward(step, [0] as Anything, 'decode'), 'rowIndex');
  refuses(() => void head.forward(step, new Int32Array(sizes.maxLogitRows + 1), 'decode'), 'rowIndex.length');
  const other = makeRuntime();
  refuses(() => void gdn.forward(makeStep(other), states, 'decode'), 'step');
  refuses(() => void gdn.forward(step, makeStates(other), 'decode'), 'states');
  refuses(() => void attention.forward(step, makeKv(other), 'decode'), 'kv');
  step.setBatch(batchOf([{ tokens: [1], slot: 6, pages: [24] }]));
  refuses(() => void gdn.forward(step, states, 'decode'), 'step.stateSlot');
  refuses(() => void attention.forward(step, kv, 'decode'), 'step.pageTable');
  step.setBatch(batchOf([{ tokens: [1], slot: 5, init: 6 }]));
  refuses(() => void gdn.forward(step, states, 'decode'), 'step.initState');
  step.setBatch(batchOf([{ tokens: [1], mode: 1, slot: 5, snapshot: { slot: 6, rows: 1 } }]));
  refuses(() => void gdn.forward(step, states, 'decode'), 'step.snapshotSlot');
  const forward = gdn.forward.bind({} as Anything);
  assert.throws(() => void forward(step, states, 'decode'), TypeError);
});

test('a step in use refuses a second forward and changes', async () => {
  const step = makeStep(runtime);
  const head = new native.LmHead(runtime, headSpec('f32'), headWeights(random));
  const batch = batchOf([{ tokens: [1] }]);
  step.setBatch(batch);
  const pending = head.forward(step, Int32Array.of(0), 'decode');
  refuses(() => void head.forward(step, Int32Array.of(0), 'decode'), 'step');
  refuses(() => step.setBatch(batch), 'step');
  refuses(() => step.hidden(), 'step');
  refuses(() => step.rows(), 'step');
  refuses(() => step.setHidden(new Float32Array(sizes.hidden)), 'step');
  refuses(() => native.logprobs(step, Int32Array.of(0), Int32Array.of(0), 0), 'step');
  await pending;
  step.setBatch(batch);
});

test('Embedding checks its table', () => {
  const table = weight(random, sizes.vocab, sizes.hidden);
  refusesFields(table, 'table', (bent) => new native.Embedding(runtime, bent, 'f32'), ['scale', 'rows']);
  refuses(() => new native.Embedding(runtime, table, 'int8' as Anything), 'format');
});

test('ExpertShard checks options, addresses and weights', async () => {
  const options = shardOptions();
  refusesFields(options, 'options', (bent) => new native.ExpertShard(runtime, bent));
  const shard = new native.ExpertShard(runtime, options);
  const { gate, up, down } = expertWeights(random);
  refuses(() => void shard.load(2, 0, gate, up, down), 'layer');
  refuses(() => void shard.load(0, sizes.numExperts, gate, up, down), 'expert');
  refuses(() => void shard.load(0, 0, down, up, down), 'gate.shape');
  refuses(() => void shard.load(0, 0, gate, up, gate), 'down.shape');
  refuses(() => void shard.load(0, 0, gate, null as Anything, down), 'up');
  refuses(() => shard.has(0, -1), 'expert');
  refuses(() => shard.unload(5, 0), 'layer');
  refuses(() => shard.held(5), 'layer');
  refuses(() => void shard.forward('x' as Anything, 0, 'decode'), 'frame');
  refuses(() => void shard.forward(new Uint8Array(1), -1, 'decode'), 'queueUs');
  refuses(() => void shard.forward(new Uint8Array(1), 0, null as Anything), 'lane');
  assert.equal(shard.has(1, 3), false);
  await shard.load(1, 3, gate, up, down);
  assert.deepEqual(shard.held(1), Int32Array.of(3));
  assert.equal(shard.unload(1, 3), true);
  assert.equal(shard.unload(1, 3), false);
});

test('SamplerState and sample check their arguments', async () => {
  const none = new Int32Array(0);
  refusesFields(samplerParams, 'params', (bent) => new native.SamplerState(5, bent, none));
  const bad: [string, object][] = [
    ['params.temperature', { temperature: -1 }],
    ['params.temperature', { temperature: Number.POSITIVE_INFINITY }],
    ['params.topK', { topK: -1 }],
    ['params.topP', { topP: 0 }],
    ['params.topP', { topP: 1.5 }],
    ['params.minP', { minP: 2 }],
    ['params.repetitionPenalty', { repetitionPenalty: 0 }],
    ['params.seed', { seed: -1n }],
    ['params.seed', { seed: 1n << 64n }],
    ['params.choice', { choice: -1 }],
    ['params.biasIds[0]', { biasIds: Int32Array.of(5) }],
    ['params.biasValues', { biasIds: Int32Array.of(1) }],
    ['params.biasValues[0]', { biasIds: Int32Array.of(1), biasValues: Float32Array.of(Number.NaN) }],
    ['params.stopIds[0]', { stopIds: Int32Array.of(-1) }],
    ['params.topLogprobs', { topLogprobs: 6 }],
  ];
  for (const [path, change] of bad)
    refuses(() => new native.SamplerState(5, { ...samplerParams, ...change }, none), path);
  refuses(() => new native.SamplerState(0, samplerParams, none), 'vocab');
  refuses(() => new native.SamplerState(5, samplerParams, [1] as Anything), 'promptIds');

  const step = makeStep(runtime);
  const state = new native.SamplerState(sizes.vocab, samplerParams, none);
  refuses(() => state.accept(sizes.vocab), 'id');
  refuses(() => void native.sample(step, Int32Array.of(0), [state], 'decode'), 'rows[0]');
  step.setBatch(batchOf([{ tokens: [1, 2] }]));
  await new native.LmHead(runtime, headSpec('f32'), headWeights(random)).forward(step, Int32Array.of(0, 1), 'decode');
  refuses(() => void native.sample(step, Int32Array.of(0, 1), [state], 'decode'), 'states');
  refuses(() => void native.sample(step, Int32Array.of(0), [step as Anything], 'decode'), 'states[0]');
  const small = new native.SamplerState(5, samplerParams, none);
  refuses(() => void native.sample(step, Int32Array.of(0), [small], 'decode'), 'states[0]');
  refuses(() => native.logprobs(step, Int32Array.of(2), Int32Array.of(0), 0), 'rows[0]');
  refuses(() => native.logprobs(step, Int32Array.of(0), Int32Array.of(sizes.vocab), 0), 'ids[0]');
  refuses(() => native.logprobs(step, Int32Array.of(0), Int32Array.of(0, 1), 0), 'ids');
  refuses(() => native.logprobs(step, Int32Array.of(0), Int32Array.of(0), -1), 'top');

  const masked = (masks: Anything): void => void native.sample(step, Int32Array.of(0), [state], 'decode', masks);
  const words = Math.ceil(sizes.vocab / 32);
  refuses(() => masked(new Int32Array(words)), 'masks');
  refuses(() => masked([]), 'masks');
  refuses(() => masked([null, null]), 'masks');
  refuses(() => masked([new Uint32Array(words)]), 'masks[0]');
  refuses(() => masked([new Int32Array(words - 1)]), 'masks[0]');
  refuses(() => masked([new Int32Array(words + 1)]), 'masks[0]');
  refuses(() => masked([undefined]), 'masks[0]');
  const only = new Int32Array(words);
  only[Math.floor(3 / 32)] = 1 << (3 % 32);
  const taken = native.sample(step, Int32Array.of(0), [state], 'decode', [only]);
  only.fill(0);
  assert.equal((await taken)[0]?.id, 3, 'the one id that was allowed when the call was made');
  const nothing = native.sample(step, Int32Array.of(0), [state], 'decode', [only]);
  await assert.rejects(nothing, /row 0/);

  const pending = native.sample(step, Int32Array.of(1), [state], 'decode', [null]);
  refuses(() => state.accept(1), 'state');
  const [sample] = await pending;
  const row = step.logits.subarray(sizes.vocab, 2 * sizes.vocab);
  assert.equal(sample?.id, row.indexOf(Math.max(...row)));
  state.accept(sample.id);
  assert.equal(state.numGenerated, 1);
});

test('frame functions check their arguments', () => {
  refuses(() => native.parseReplyHeader('x' as Anything), 'frame');
  refuses(() => native.parseReplyHeader(new Uint8Array(0)), 'frame');
  refuses(() => native.parseForwardHeader(new Uint8Array([9, 9])), 'frame');
  refuses(() => native.packStatusReply(new Uint8Array(0), 1, ''), 'status');
  refuses(() => native.packStatusReply(new Uint8Array(0), 6, ''), 'status');
  refuses(() => native.packStatusReply(new Uint8Array(0), 3, null as Anything), 'error');
});

test('a failure of the work rejects the promise with NATIVE_FAILURE', async () => {
  const step = makeStep(runtime);
  step.setBatch(batchOf([{ tokens: [1] }]));
  step.setHidden(new Float32Array(sizes.hidden).fill(Number.NaN));
  const gate = new native.MoeGate(runtime, gateSpec('f32'), gateWeights(random));
  await assert.rejects(
    gate.forward(step, 'decode'),
    (error: unknown) => isNativeError(error) && error.code === 'NATIVE_FAILURE',
  );
  step.setHidden(new Float32Array(sizes.hidden).fill(1));
  await gate.forward(step, 'decode');
});

test('crc32c checks its arguments', () => {
  for (const wrong of wrongKinds) {
    if (!Array.isArray(wrong)) refuses(() => void native.crc32c(wrong), 'parts');
    refuses(() => void native.crc32c([new Uint8Array(1), wrong]), 'parts[1]');
  }
  refuses(() => void native.crc32c([resizable(8)]), 'parts[0]');
});

test('classes cannot be called without new', () => {
  for (const name of ['Runtime', 'KvPool', 'SamplerState'] satisfies (keyof NativeBinding)[]) {
    assert.throws(() => (native[name] as Anything)({}), TypeError);
  }
});

test('probe checks its arguments', () => {
  const data = new Uint8Array(4096);
  refuses(() => native.probe('write' as Anything, 1, 1, data), 'kind');
  refuses(() => native.probe('read', 0, 1, data), 'threads');
  refuses(() => native.probe('read', 1.5, 1, data), 'threads');
  refuses(() => native.probe('read', 1, 0, data), 'milliseconds');
  refuses(() => native.probe('read', 1, 1, null), 'data');
  refuses(() => native.probe('read', 1, 1, new Uint8Array(8)), 'data');
  for (const wrong of wrongKinds) refuses(() => native.probe('read', 1, 1, wrong), 'data');
  assert.ok(native.probe('read', 1, 1, data) > 0);
  for (const wrong of [...wrongKinds, 0, -1, 1.5]) refuses(() => native.probeMemory(wrong), 'size');
  const memory = new Uint8Array(native.probeMemory(5000));
  assert.ok(memory.length === 5000 && memory.every((byte) => byte === 1));
});
