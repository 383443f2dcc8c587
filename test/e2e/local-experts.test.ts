import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import OpenAI from 'openai';
import { Cluster } from '../harness/cluster.ts';
import { ROOT } from '../harness/service-process.ts';
import { until } from '../harness/wait.ts';

const scratch = mkdtempSync(join(tmpdir(), 'guildhall-local-'));
const started: ChildProcess[] = [];
after(() => {
  // Their stacks end with them.
  for (const child of started) child.kill('SIGKILL');
  rmSync(scratch, { recursive: true, force: true });
});

/** Runs the CLI and collects what it writes. */
function cli(args: string[]): { child: ChildProcess; output: () => string; errors: () => string } {
  const main = join(ROOT, 'services', 'cli', 'src', 'main.ts');
  const child = spawn(process.execPath, [main, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NODE_NO_WARNINGS: '1' },
  });
  started.push(child);
  let text = '';
  let errors = '';
  child.stdout?.on('data', (data: Buffer) => (text += data.toString()));
  child.stderr?.on('data', (data: Buffer) => (errors += data.toString()));
  return { child, output: () => text, errors: () => errors };
}

interface Answer {
  tokens: string[];
  logprobs: number[];
}

/** Greedy and sampled answers to prompts of several lengths, asked for at the same time. */
async function answers(client: OpenAI): Promise<Answer[]> {
  const questions = Array.from({ length: 6 }, async (_, index) => {
    const completion = await client.chat.completions.create({
      model: 'tiny',
      messages: [{ role: 'user', content: `${'Please answer briefly. '.repeat(index * 9)}What is 3 + ${index}?` }],
      max_tokens: 24,
      temperature: index % 2,
      seed: index,
      logprobs: true,
    });
    const content = completion.choices[0]?.logprobs?.content ?? [];
    return { tokens: content.map(({ token }) => token), logprobs: content.map(({ logprob }) => logprob) };
  });
  return Promise.all(questions);
}

test('a router with local experts serves without workers and controller, bit for bit as with workers', async () => {
  const remote = await Cluster.start({ workers: 2, weights: 'bf16' });
  let expected: Answer[];
  try {
    expected = await answers(remote.client());
  } finally {
    await remote.stop();
  }
  assert.ok(expected.every(({ tokens }) => tokens.length > 0));
  const local = await Cluster.start({ workers: 0, weights: 'bf16', routerArgs: ['--experts', 'local'] });
  try {
    assert.deepEqual(await answers(local.client()), expected);
    const [router] = local.routers;
    assert.ok(router !== undefined);
    assert.ok((await local.metric(router, 'guildhall_expert_rows_total', 'worker="router-1"')) > 0);
    assert.equal(await local.metric(router, 'guildhall_expert_coverage'), 1);
  } finally {
    await local.stop();
  }
});

test('`serve --experts local` starts redis, gateway and router, and `status` says where the experts are', async () => {
  const state = join(scratch, 'serve');
  const model = ['--served-model-name', 'tiny', '--weights', 'f32'];
  const listen = ['--listen', '127.0.0.1:0', '--state-dir', state];
  const serve = cli(['serve', '--experts', 'local', '--json', ...model, ...listen]);
  await until('the stack to be ready', () => {
    assert.equal(serve.child.exitCode, null);
    return serve.output().includes('\n');
  });
  const { url } = JSON.parse(serve.output()) as { url: string };
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
  const [answer] = await answers(client);
  assert.ok(answer !== undefined && answer.tokens.length > 0);

  const status = cli(['status', '--json', '--state-dir', state]);
  await until('status to end', () => status.child.exitCode !== null);
  const { members } = JSON.parse(status.output()) as { members: { id: string; ready: boolean; expertsHeld: number }[] };
  assert.deepEqual(new Set(members.map(({ id }) => id)), new Set(['gateway-1', 'router-1']));
  const router = members.find(({ id }) => id === 'router-1');
  assert.ok(router !== undefined && router.ready && router.expertsHeld > 0);
  const text = cli(['status', '--state-dir', state]);
  await until('status to end', () => text.child.exitCode !== null);
  assert.match(text.output(), /all experts in the process of router-1/);
  serve.child.kill('SIGTERM');
  await until('serve to end', () => serve.child.exitCode !== null || serve.child.signalCode !== null);
});

test('partial sums and local experts exclude each other', async () => {
  const broken = cli([
    'serve',
    'router',
    '--model',
    join(ROOT, 'models', 'tiny'),
    '--experts',
    'local',
    '--combine=partial',
  ]);
  await until('the router to end', () => broken.child.exitCode !== null);
  assert.equal(broken.child.exitCode, 1);
  assert.match(broken.errors(), /"code":"config_invalid","field":"combine"/);
});
