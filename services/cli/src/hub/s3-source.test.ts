import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { S3Server } from '../../../../test/fakes/s3-server.ts';
import { ROOT } from '../stack/state-dir.ts';
import { PARTIAL_DIR } from './download.ts';
import { parseRepoSpec } from './repo-spec.ts';
import { parseSums } from './s3-source.ts';

const MAIN = join(ROOT, 'services', 'cli', 'src', 'main.ts');
const TINY = join(ROOT, 'models', 'tiny');
const files = Object.fromEntries(
  readdirSync(TINY)
    .filter((name) => statSync(join(TINY, name)).isFile())
    .map((name) => [name, readFileSync(join(TINY, name))]),
);
const weights = Object.keys(files).find((name) => name.endsWith('.safetensors')) ?? '';

let s3: S3Server;
let scratch: string;
let sums: string;

before(async () => {
  s3 = new S3Server();
  await s3.start();
  sums = s3.putModel('models', 'team/tiny/', files);
  scratch = mkdtempSync(join(tmpdir(), 'guildhall-s3-'));
});
after(async () => {
  await s3.stop();
  rmSync(scratch, { recursive: true, force: true });
});

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs the command as an init container would: no home, and nothing but the volume to write to. */
async function pull(spec: string, args: string[] = [], env: Record<string, string> = s3.env): Promise<Ended> {
  const child = spawn(process.execPath, [MAIN, 'pull', spec, ...args], {
    env: { PATH: process.env['PATH'] ?? '', NODE_NO_WARNINGS: '1', HOME: scratch, ...env },
  });
  const ended: Ended = { code: null, stdout: '', stderr: '' };
  child.stdout.on('data', (data: Buffer) => (ended.stdout += data.toString()));
  child.stderr.on('data', (data: Buffer) => (ended.stderr += data.toString()));
  [ended.code] = (await once(child, 'close')) as [number | null];
  return ended;
}

function assertWhole(dir: string): void {
  for (const [path, bytes] of Object.entries(files)) assert.ok(readFileSync(join(dir, path)).equals(bytes), path);
  assert.ok(!existsSync(join(dir, PARTIAL_DIR)));
}

test('a model comes from a bucket through busy answers and a broken connection, pinned by one hash; twice brings nothing', async () => {
  const dir = join(scratch, 'whole');
  s3.statuses.push(503);
  s3.cut = { key: `models/team/tiny/${weights}`, afterBytes: 5000 };
  const args = ['--dir', dir, '--sha256', sums, '--json'];
  const first = await pull('s3://models/team/tiny/', args);
  assert.equal(first.code, 0, first.stderr);
  assertWhole(dir);
  const result = JSON.parse(first.stdout) as { sha256: string; repo: string; downloadedBytes: number };
  assert.deepEqual([result.sha256, result.repo], [sums, 's3://models/team/tiny']);
  const resumed = s3.seen.some(
    ({ path, range }) => path.includes(weights) && range !== null && !range.startsWith('bytes=0-'),
  );
  assert.ok(resumed, 'the rest was asked for, not all of it again');
  s3.seen.length = 0;
  const second = await pull('s3://models/team/tiny', args);
  assert.equal((JSON.parse(second.stdout) as { downloadedBytes: number }).downloadedBytes, 0);
  assert.deepEqual(
    s3.seen.map(({ path }) => path.split('?')[0]),
    ['models/team/tiny/SHA256SUMS'],
  );
});

test('two pods that pull into one volume bring each file once', async () => {
  const dir = join(scratch, 'shared');
  s3.seen.length = 0;
  const [one, other] = await Promise.all([1, 2].map(() => pull('s3://models/team/tiny', ['--dir', dir])));
  assert.deepEqual([one?.code, other?.code], [0, 0], `${one?.stderr}${other?.stderr}`);
  assertWhole(dir);
  assert.equal(s3.seen.filter(({ path }) => path.startsWith(`models/team/tiny/${weights}`)).length, 1);
});

test('what is not what was pinned, not there, not allowed or not listed is refused, and nothing is put in place', async () => {
  const dir = join(scratch, 'refused');
  const wrong = await pull('s3://models/team/tiny', ['--dir', dir, '--sha256', '0'.repeat(64)]);
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, new RegExp(`has sha256 ${sums}, not 000`));
  assert.ok(!existsSync(join(dir, weights)));
  assert.match((await pull('s3://models/nothing', ['--dir', dir])).stderr, /not found; make it with: sha256sum/);
  const stranger = { ...s3.env, AWS_ACCESS_KEY_ID: 'OTHER' };
  assert.match((await pull('s3://models/team/tiny', ['--dir', dir], stranger)).stderr, /AccessDenied/);
  assert.match((await pull('s3://models/team/tiny')).stderr, /needs --dir/);
  s3.putModel('models', 'broken/', { ...files, [weights]: Buffer.from('as listed') });
  s3.put('models', `broken/${weights}`, Buffer.from('otherwise'));
  const corrupt = await pull('s3://models/broken', ['--dir', join(scratch, 'broken')]);
  assert.match(corrupt.stderr, /its sha256 is wrong/);
});

test('places and checksums are read strictly', () => {
  assert.deepEqual(parseRepoSpec('s3://bucket/a/b/').s3, { bucket: 'bucket', prefix: 'a/b/', url: 's3://bucket/a/b' });
  assert.deepEqual(parseRepoSpec('s3://bucket').s3, { bucket: 'bucket', prefix: '', url: 's3://bucket' });
  assert.deepEqual(parseRepoSpec('hf://org/name@v1'), parseRepoSpec('org/name@v1'));
  for (const text of ['s3://', 's3://UPPER/x', 's3://b/x', 's3://bucket//x', 'hf://', 'hf://a/b/c', 'gs://bucket/x'])
    assert.throws(() => parseRepoSpec(text), { code: 'config_invalid' }, text);
  const digest = 'a'.repeat(64);
  assert.deepEqual(
    [...parseSums(`${digest}  ./x/y\n${digest} *z\r\n\n${digest}  SHA256SUMS\n`)],
    [
      ['x/y', digest],
      ['z', digest],
    ],
  );
  for (const line of [`${digest} x`, 'short  x', `${digest}  ../x`, `${digest}  /x`, `${digest}  .guildhall-pull.json`])
    assert.throws(() => parseSums(line), { code: 'hub_invalid' }, line);
});
