import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Cluster } from '../harness/cluster.ts';

const MAIN = fileURLToPath(new URL('../../services/cli/src/main.ts', import.meta.url));
let cluster: Cluster;

before(async () => {
  cluster = await Cluster.start({ workers: 2, weights: 'bf16' });
});
after(async () => cluster?.stop());

interface Shown {
  workload: string;
  tokensPerWord: { value: number; measured: boolean };
  points: {
    requests: { sent: number; succeeded: number; failed: number };
    tokens: { prompt: number; cached: number; output: number; countedBy: string };
    ttftMs: { count: number };
    itlMs: { count: number };
  }[];
}

async function bench(...args: string[]): Promise<Shown> {
  const command = [MAIN, 'bench', 'serve', '--url', cluster.url, '--json', '--warmup', '1', ...args];
  const { stdout } = await promisify(execFile)(process.execPath, command, { maxBuffer: 32 << 20 });
  return JSON.parse(stdout) as Shown;
}

test('prompts have the tokens that they are asked to have, and answers too', async () => {
  const { points, tokensPerWord } = await bench(
    '--rate',
    '20,40',
    '--requests',
    '8',
    '--prompt',
    '120',
    '--output',
    '12',
  );
  assert.ok(tokensPerWord.measured);
  for (const { requests, tokens, ttftMs } of points) {
    assert.deepEqual([requests.sent, requests.succeeded, requests.failed], [8, 8, 0]);
    assert.deepEqual([tokens.output, tokens.countedBy, ttftMs.count], [96, 'usage', 8]);
    // The tokenizer does not give every word the same number of tokens.
    assert.ok(Math.abs(tokens.prompt / 8 / 120 - 1) < 0.2, `${tokens.prompt / 8} tokens a prompt`);
  }
});

test('a shared prefix is found in the cache, and turns carry what was answered', async () => {
  const shared = ['--shared-prefix', '256', '--prefix-groups', '1', '--prompt', '40', '--output', '6'];
  const [alone] = (await bench('--concurrency', '1', '--requests', '6', ...shared)).points;
  assert.ok(alone !== undefined);
  // All but the first of six have the prefix from a cache, in whole pages of 64 tokens.
  assert.ok(alone.tokens.cached >= 5 * 128, `${alone.tokens.cached} of ${alone.tokens.prompt} from a cache`);
  const [turns] = (
    await bench('--concurrency', '2', '--requests', '6', '--turns', '3', '--prompt', '40', '--output', '6')
  ).points;
  assert.ok(turns !== undefined);
  assert.equal(turns.requests.succeeded, 6);
  assert.ok(turns.tokens.prompt > 6 * 50, 'later turns have the earlier ones in front');
});

test('responses are measured as well, with what a cache spared', async () => {
  const shared = ['--shared-prefix', '256', '--prefix-groups', '1', '--prompt', '30', '--output', '5'];
  const [point] = (await bench('--api', 'responses', '--concurrency', '1', '--requests', '4', ...shared)).points;
  assert.deepEqual([point?.requests.succeeded, point?.requests.failed], [4, 0]);
  assert.deepEqual([point?.tokens.output, point?.tokens.countedBy], [20, 'usage']);
  assert.ok((point?.tokens.cached ?? 0) >= 3 * 128);
  assert.equal(point?.ttftMs.count, 4);
  const [turns] = (
    await bench(
      '--api',
      'responses',
      '--concurrency',
      '2',
      '--requests',
      '4',
      '--turns',
      '2',
      '--prompt',
      '30',
      '--output',
      '5',
    )
  ).points;
  assert.equal(turns?.requests.succeeded, 4);
});

test('text completions are measured as well', async () => {
  const [point] = (
    await bench('--api', 'completions', '--concurrency', '4', '--requests', '8', '--prompt', '30', '--output', '5')
  ).points;
  assert.deepEqual([point?.requests.succeeded, point?.tokens.output], [8, 40]);
});
