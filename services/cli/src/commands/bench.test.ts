import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { BenchServeResult } from '../bench-serve/result.ts';
import { answerUncounted, answerWell, ScriptedServer } from '../bench-serve/testing/scripted-server.ts';

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'guildhall-bench-'));
let server: ScriptedServer;

before(async () => {
  server = await ScriptedServer.start(answerWell);
});
after(async () => {
  await server.stop();
  rmSync(dir, { recursive: true });
});

interface Run {
  code: number | null;
  stdout: string;
  stderr: string;
}

function run(
  args: string[],
  onStart: (kill: (signal: NodeJS.Signals) => void) => void = () => undefined,
): Promise<Run> {
  const env = { ...process.env, NODE_NO_WARNINGS: '1', GUILDHALL_API_KEY: 'from-environment' };
  const child = spawn(process.execPath, [MAIN, 'bench', 'serve', '--url', server.url, '--state-dir', dir, ...args], {
    env,
  });
  const result: Run = { code: null, stdout: '', stderr: '' };
  child.stdout.on('data', (data: Buffer) => (result.stdout += data.toString()));
  child.stderr.on('data', (data: Buffer) => (result.stderr += data.toString()));
  onStart((signal) => void child.kill(signal));
  return new Promise((resolve) => child.once('close', (code) => resolve({ ...result, code })));
}

const SHORT = ['--prompt', '40', '--output', '4', '--warmup', '0'];

test('a sweep counts what it sent, keeps the result, and writes a report', async () => {
  server.handler = answerWell;
  server.seen.length = 0;
  const [save, html] = [join(dir, 'a.json'), join(dir, 'a.html')];
  const more = [
    '--rate',
    '200,400',
    '--requests',
    '30',
    '--slo',
    'ttft:60000',
    '--save',
    save,
    '--html',
    html,
    '--json',
  ];
  const { code, stdout, stderr } = await run([...SHORT, ...more, '--label', 'first']);
  assert.equal(code, 0, stderr);
  const result = JSON.parse(stdout) as BenchServeResult;
  assert.deepEqual(JSON.parse(readFileSync(save, 'utf8')), result);
  assert.equal(server.seen.length, 2 + 60, 'two to learn how tokens are counted');
  assert.ok(
    server.seen.every(
      ({ headers, body }) => headers.authorization === 'Bearer from-environment' && body['model'] === 'scripted',
    ),
  );
  for (const { requests, tokens, attainment } of result.points) {
    assert.deepEqual(requests, { sent: 30, succeeded: 30, failed: 0, aborted: 0 });
    assert.equal(tokens.output, 120);
    assert.equal(tokens.countedBy, 'usage');
    assert.equal(attainment, 1);
  }
  const texts = server.seen.map(({ body }) => JSON.stringify(body['messages']));
  assert.equal(new Set(texts).size, texts.length, 'no prompt comes twice, whatever the load');
  assert.match(readFileSync(html, 'utf8'), /<title>first: load test<\/title>/);
  assert.ok(
    !stdout.includes('from-environment') && !readFileSync(html, 'utf8').includes('from-environment'),
    'no key in results',
  );
});

test('a server without usage, and completions', async () => {
  server.handler = answerUncounted;
  const { code, stdout } = await run([...SHORT, '--concurrency', '3', '--requests', '9', '--api', 'completions']);
  assert.equal(code, 0);
  assert.match(stdout, /3 clients +9 +0 /);
  assert.match(stdout, /gives no usage/);
});

test('failures are told by kind and end with status 1', async () => {
  server.handler = (seen, response, number) =>
    number % 4 === 3
      ? void response.writeHead(429).end('{"error":{"message":"slow down"}}')
      : answerWell(seen, response);
  const first = server.seen.length;
  server.seen.splice(0, first);
  const { code, stdout, stderr } = await run([...SHORT, '--rate', '500', '--requests', '40']);
  assert.equal(code, 1);
  assert.match(stdout, /error: 500\/s: 10 × http_429, the server answered with status 429: slow down/);
  assert.match(stderr, /10 of 40 requests failed/);
  server.seen.length = 0;
  const allowed = await run([...SHORT, '--rate', '500', '--requests', '40', '--max-failures', '0.5']);
  assert.equal(allowed.code, 0);
});

test('Ctrl-C reports what was measured and ends with status 130', async () => {
  let kill: (signal: NodeJS.Signals) => void = () => undefined;
  server.seen.length = 0;
  server.handler = (seen, response, number) => {
    if (number < 10) answerWell(seen, response);
    else kill('SIGINT');
  };
  const { code, stdout } = await run(
    [...SHORT, '--rate', '100', '--requests', '1000', '--json'],
    (end) => (kill = end),
  );
  assert.equal(code, 130);
  const { partial, points } = JSON.parse(stdout) as BenchServeResult;
  assert.ok(partial);
  assert.equal(points[0]?.requests.succeeded, 8);
  assert.equal(points[0]?.requests.failed, 0, 'what was stopped did not fail');
});

test('a server that is not there, or refuses, is said before any load', async () => {
  server.handler = (_, response) =>
    void response.writeHead(400).end('{"error":{"message":"unknown field ignore_eos"}}');
  const refused = await run([...SHORT, '--rate', '1']);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /unknown field ignore_eos; .*--no-ignore-eos/);
  const wrong = await run(['--rate', 'x', '--json']);
  assert.match(wrong.stderr, /"code":"config_invalid"/);
});

test('results are put beside each other', async () => {
  server.handler = answerWell;
  const files: string[] = [];
  for (const label of ['ours', 'theirs']) {
    const file = join(dir, `${label}.json`);
    files.push(file);
    assert.equal(
      (await run([...SHORT, '--concurrency', '2', '--requests', '6', '--label', label, '--save', file])).code,
      0,
    );
  }
  const html = join(dir, 'both.html');
  const { code, stdout } = await run(['--html', html, '--compare', ...files]);
  assert.equal(code, 0);
  assert.match(stdout, /ours +2 clients[\s\S]*theirs +2 clients +[\d.]+ +[+-][\d.]+ %/);
  assert.match(readFileSync(html, 'utf8'), /ours · theirs/);
  const other = join(dir, 'other.json');
  writeFileSync(other, '{"suite":"simulate"}');
  const refused = await run(['--compare', other]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /is no result of/);
});
