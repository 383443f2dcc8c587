import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { optionsFor, type SimulateFlags, workerCounts } from './options.ts';

const FLAGS: SimulateFlags = {
  preset: 'qwen3.5-397b',
  workers: '8,1024',
  workerKind: 'gpu',
  routerKind: 'gpu',
  link: '25G',
  transport: 'grpc',
  combine: 'exact',
  batch: '32',
  prompt: '64',
  answer: '512',
  context: '8192',
  skew: '0.5',
  affinity: '0.3',
  copies: '2',
  mostCopies: '4',
  hedgeShare: '0.03',
  seconds: '4',
  seed: '1',
};

describe('options of a simulation', () => {
  it('come from flags, with a router for each 64 workers', () => {
    assert.deepEqual(workerCounts(FLAGS), [8, 1024]);
    const options = optionsFor(FLAGS, 1024);
    assert.equal(options.workers.length, 1024);
    assert.equal(options.routers, 16);
    assert.equal(options.settings.maxRunning, 32);
    assert.equal(options.workerLink, options.routerLink);
  });

  it('have the published dimensions of the 397B', () => {
    const { shape } = optionsFor(FLAGS, 8);
    assert.equal(shape.expertBytes, 12_582_912);
    // 386.5 billion routed parameters, and 7.8 billion beside them.
    assert.equal(shape.expertBytes * shape.numExperts * shape.numLayers, 386_547_056_640);
    const dense = (45 * shape.recurrent.weightBytes + 15 * shape.full.weightBytes) / 2;
    assert.ok(Math.abs(dense / 7.8e9 - 1) < 0.01, `${dense} parameters`);
    // 30,720 bytes of K and V a token, 188.7 MB of state a sequence.
    assert.equal(15 * shape.full.bytesPerContextToken, 30_720);
    assert.equal(45 * shape.recurrent.stateBytes, 188_743_680);
  });

  it('mix kinds of workers in turn', () => {
    const { workers } = optionsFor({ ...FLAGS, workerKind: 'gpu+cpu' }, 4);
    assert.deepEqual(
      workers.map(({ name }) => name),
      ['gpu', 'cpu', 'gpu', 'cpu'],
    );
  });

  it('name faults by their time', () => {
    const { faults } = optionsFor({ ...FLAGS, loseWorker: '5s', slowWorker: '2.5' }, 8);
    assert.deepEqual(
      faults.map(({ kind, atMs }) => [kind, atMs]),
      [
        ['lost', 5000],
        ['slow', 2500],
      ],
    );
  });

  const bad: [string, Partial<SimulateFlags>, RegExp][] = [
    ['a model that is not known', { preset: 'gpt' }, /--preset gpt is none of qwen3.5-397b, tiny/],
    ['a link that is not known', { link: 'toString' }, /--link toString is none of/],
    ['half a worker', { batch: '1.5' }, /--batch 1.5 is not a whole number/],
    ['a share above one', { affinity: '2' }, /--affinity 2 is not a number from 0 to 1/],
    ['a time that is none', { loseWorker: 'soon' }, /--lose-worker/],
  ];
  for (const [what, flags, message] of bad) {
    it(`refuse ${what}`, () => assert.throws(() => optionsFor({ ...FLAGS, ...flags }, 8), message));
  }
});
