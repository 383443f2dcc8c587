import assert from 'node:assert/strict';
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { isGuildhallError } from '@guildhall/common';
import { PullRig, someBytes } from '../testing/pull-rig.ts';
import { withPulledModel } from '../commands/serve.ts';
import { ROOT } from '../stack/state-dir.ts';
import { chooseEndpoint } from './endpoint.ts';
import { parseRepoSpec, tryRepoSpec } from './repo-spec.ts';

const FILES = { 'config.json': Buffer.from('{}'), 'model.safetensors': someBytes(400_000, 1) };
let rig: PullRig;
beforeEach(async () => {
  rig = new PullRig();
  await rig.start();
});
afterEach(() => rig.stop());

function command(...args: string[]): ChildProcessWithoutNullStreams {
  return spawn(process.execPath, [join(ROOT, 'services/cli/src/main.ts'), 'pull', ...args], {
    env: { ...process.env, GUILDHALL_HOME: rig.home, HF_ENDPOINT: rig.hub.url, HF_TOKEN: 'hf_secret' },
  });
}

async function finish(child: ChildProcessWithoutNullStreams): Promise<{ code: number; out: string; err: string }> {
  let [out, err] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number];
  assert.ok(!`${out}${err}`.includes('hf_secret'), 'the token is shown nowhere');
  return { code, out, err };
}

test('the command prints what it did, as text and as one JSON object', async () => {
  rig.hub.add('org/model', FILES);
  rig.hub.requiredToken = 'hf_secret';
  const text = await finish(command('org/model'));
  assert.equal(text.code, 0, text.err);
  assert.match(text.out, /org\/model@main is commit [0-9a-f]{40}/);
  assert.match(text.out, /serve it: guildhall serve --model org\/model/);
  const json = await finish(command('org/model', '--json'));
  assert.equal(json.err, '');
  const result = JSON.parse(json.out) as { dir: string; files: string[]; downloadedBytes: number };
  assert.deepEqual([result.files, result.downloadedBytes], [Object.keys(FILES).sort(), 0]);
  assert.ok(readFileSync(join(result.dir, 'model.safetensors')).equals(FILES['model.safetensors']));
});

test('an error is one object with --json, and says what to do without', async () => {
  const json = await finish(command('org/none', '--json'));
  assert.equal(json.code, 1);
  assert.equal((JSON.parse(json.err) as { error: { code: string } }).error.code, 'hub_not_found');
  const text = await finish(command('org/none'));
  assert.match(text.err, /RepoNotFound[\s\S]*Check the name and the revision/);
  assert.equal((await finish(command('../etc'))).code, 1);
  assert.equal((await finish(command('org/model', '--shard', '3/2'))).code, 1);
});

test('Ctrl-C ends it with 130, leaves no lock, and the next pull goes on', async () => {
  rig.hub.add('org/model', FILES);
  rig.hub.faults.hold = { path: 'model.safetensors', afterBytes: 200_000 };
  const child = command('org/model');
  const finished = finish(child);
  await rig.partialBytes('org/model', 200_000);
  child.kill('SIGINT');
  const stopped = await finished;
  assert.equal(stopped.code, 130, stopped.err);
  assert.match(stopped.err, /the same command goes on from here/);
  rig.hub.faults.hold = null;
  const { dir, downloadedBytes } = await rig.pull('org/model');
  assert.ok(!existsSync(join(dir, '.guildhall-pull.lock')));
  assert.equal(downloadedBytes, 200_000);
});

test('repository names: what the hub takes, and nothing else', () => {
  assert.deepEqual(parseRepoSpec('Qwen/Qwen3.5-35B-A3B'), { repo: 'Qwen/Qwen3.5-35B-A3B', revision: 'main' });
  assert.deepEqual(parseRepoSpec('a/b@refs/pr/1'), { repo: 'a/b', revision: 'refs/pr/1' });
  for (const text of [
    '',
    'a/b/c',
    '../b',
    'a/..',
    './a',
    '/a',
    'a/b@',
    'a/b@../x',
    'a--b/c',
    'a/b@-x',
    'a/b?x',
    'a b/c',
  ]) {
    assert.equal(tryRepoSpec(text), null, text);
  }
});

test('endpoints: flag before environment, no token over plain http, none in the address', () => {
  assert.equal(chooseEndpoint(null, {}).url.protocol, 'https:');
  assert.equal(chooseEndpoint(null, { HF_ENDPOINT: 'https://a.example', HF_TOKEN: 'x' }).token, 'x');
  const env = { GUILDHALL_HUB_ENDPOINT: 'https://b.example/hub', HF_ENDPOINT: 'https://a.example' };
  assert.equal(chooseEndpoint(null, env).url.href, 'https://b.example/hub');
  assert.equal(chooseEndpoint('https://c.example', env).url.host, 'c.example');
  assert.equal(chooseEndpoint('http://[::1]:80', { HF_TOKEN: 'x' }).token, 'x');
  const refused = (err: unknown): boolean => isGuildhallError(err) && err.code === 'config_invalid';
  assert.throws(() => chooseEndpoint('http://a.example', { HF_TOKEN: 'x' }), refused);
  assert.throws(() => chooseEndpoint('https://user:pw@a.example', {}), refused);
  assert.throws(() => chooseEndpoint('ftp://a.example', {}), refused);
  assert.throws(() => chooseEndpoint('hub', {}), refused);
  assert.throws(() => chooseEndpoint(null, { HF_TOKEN: 'x\r\ny: z' }), refused);
});

test('a mirror below a path of its host is asked there', async () => {
  rig.hub.add('org/model', FILES);
  const endpoint = chooseEndpoint(`${rig.hub.url}/mirror`, {});
  await assert.rejects(
    rig.pull('org/model', { endpoint }),
    (err) => isGuildhallError(err) && err.code === 'hub_not_found',
  );
  assert.equal(rig.hub.seen[0]?.path, '/mirror/api/models/org/model/revision/main');
});

test('a service alone gets the folder of a pulled model, and its name where it serves under one', async () => {
  rig.hub.add('org/model', FILES);
  const { dir } = await rig.pull('org/model');
  const args = (service: string, ...given: string[]): string[] => withPulledModel(service, given, rig.store);
  assert.deepEqual(args('expert', '--model', 'org/model', '--id', 'e'), ['--id', 'e', '--model', dir]);
  assert.deepEqual(args('router', '--model=org/model'), ['--model', dir, '--served-model-name', 'org/model']);
  assert.deepEqual(args('router', '--served-model-name', 'x', '--model', 'org/model'), [
    '--served-model-name',
    'x',
    '--model',
    dir,
  ]);
  assert.deepEqual(args('router', '--model', dir), ['--model', dir]);
  assert.deepEqual(args('controller', '--id', 'c'), ['--id', 'c']);
  assert.throws(() => args('expert', '--model', 'org/none'), /guildhall pull org\/none/);
});
