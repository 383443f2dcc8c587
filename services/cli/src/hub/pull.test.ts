import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { isGuildhallError, systemClock, type ErrorCode } from '@guildhall/common';
import { PullRig, someBytes } from '../testing/pull-rig.ts';
import { PARTIAL_DIR } from './download.ts';
import { chooseEndpoint } from './endpoint.ts';

const WEIGHTS = 'model.safetensors';
const SMALL = { 'config.json': Buffer.from('{"model_type":"x"}'), 'README.md': Buffer.from('# card') };
const FILES = { ...SMALL, 'tokenizer.json': someBytes(5000, 1), [WEIGHTS]: someBytes(900_000, 2) };

let rig: PullRig;
beforeEach(async () => {
  rig = new PullRig();
  await rig.start();
});
afterEach(() => rig.stop());

function code(wanted: ErrorCode, message = /./): (err: unknown) => boolean {
  return (err) => {
    assert.ok(isGuildhallError(err), String(err));
    assert.equal(err.code, wanted, err.message);
    assert.match(err.message, message);
    return true;
  };
}

function assertPulled(dir: string, files: Record<string, Buffer> = FILES): void {
  for (const [path, bytes] of Object.entries(files)) {
    assert.ok(readFileSync(join(dir, path)).equals(bytes), `${path} has its contents`);
  }
  assert.ok(!existsSync(join(dir, PARTIAL_DIR)), 'nothing half done is left');
}

test('a pull brings the files of a model over a paged listing, and a second one brings nothing', async () => {
  const other = { 'pytorch_model.bin': someBytes(2000, 3), 'onnx/model.onnx': someBytes(10, 4) };
  rig.hub.add('org/model', { ...FILES, ...other });
  const first = await rig.pull('org/model');
  assertPulled(first.dir);
  assert.deepEqual(first.files, Object.keys(FILES).sort());
  assert.equal(first.dir, join(rig.home, 'models', 'org--model', first.commit));
  assert.equal(
    first.downloadedBytes,
    Object.values(FILES).reduce((sum, bytes) => sum + bytes.length, 0),
  );
  assert.deepEqual(rig.hub.filesAsked().sort(), Object.keys(FILES).sort());

  rig.hub.seen.length = 0;
  const second = await rig.pull('org/model');
  assert.deepEqual([second.downloadedBytes, second.commit], [0, first.commit]);
  assert.deepEqual(
    rig.hub.seen.map(({ path }) => path),
    ['/api/models/org/model/revision/main'],
  );

  rig.hub.seen.length = 0;
  assert.equal((await rig.pull(`org/model@${first.commit}`)).downloadedBytes, 0);
  assert.deepEqual(rig.hub.seen, [], 'a commit that is here needs no hub');
});

test('--all brings the rest too', async () => {
  const all = { ...FILES, 'pytorch_model.bin': someBytes(2000, 3), 'onnx/model.onnx': someBytes(10, 4) };
  rig.hub.add('org/model', all);
  const { dir } = await rig.pull('org/model');
  assert.ok(!existsSync(join(dir, 'onnx')));
  assertPulled((await rig.pull('org/model', { all: true })).dir, all);
});

test('a branch that moves is a new commit in a folder of its own', async () => {
  rig.hub.add('org/model', FILES);
  const old = await rig.pull('org/model');
  const changed = { ...FILES, [WEIGHTS]: someBytes(900_000, 9) };
  rig.hub.add('org/model', changed);
  const young = await rig.pull('org/model');
  assert.notEqual(young.commit, old.commit);
  assertPulled(old.dir);
  assertPulled(young.dir, changed);
  assert.equal(rig.store.find('org/model').dir, young.dir);
});

test('a connection that breaks is taken up again where it broke', async () => {
  rig.hub.add('org/model', FILES);
  rig.hub.faults.cut = { path: WEIGHTS, afterBytes: 300_000, times: 2 };
  const { dir } = await rig.pull('org/model');
  assertPulled(dir);
  const ranges = rig.hub.seen.filter(({ host, range }) => host === 'cdn' && range !== null);
  assert.equal(ranges.length, 2);
  assert.ok(ranges.every(({ range }) => Number(/\d+/.exec(range ?? '')?.[0]) > 0));
});

test('a body that ends early is taken up again; a server without ranges starts from the beginning', async () => {
  rig.hub.add('org/model', FILES);
  rig.hub.faults.truncate = { path: WEIGHTS, bytes: 100_000, times: 1 };
  rig.hub.faults.ignoreRanges = true;
  assertPulled((await rig.pull('org/model')).dir);
});

test('a connection on which nothing comes is given up', async () => {
  rig.hub.add('org/model', FILES);
  rig.hub.faults.stall = { path: WEIGHTS, times: 1 };
  const clock = {
    ...rig.clock,
    setTimer: (ms: number, fn: () => void) => systemClock.setTimer(ms === 60_000 ? 300 : ms, fn),
  };
  assertPulled((await rig.pull('org/model', { clock })).dir);
});

test('a stopped pull leaves what came, and the next one goes on from there', async () => {
  rig.hub.add('org/model', FILES);
  const stop = new AbortController();
  rig.hub.faults.hold = { path: WEIGHTS, afterBytes: 300_000 };
  const running = rig.pull('org/model', { signal: stop.signal });
  await rig.partialBytes('org/model', 300_000);
  stop.abort();
  await assert.rejects(running, code('cancelled'));
  rig.hub.faults.hold = null;
  rig.hub.seen.length = 0;
  const { dir, downloadedBytes } = await rig.pull('org/model');
  assertPulled(dir);
  assert.equal(downloadedBytes, FILES[WEIGHTS].length - 300_000);
  assert.match(
    rig.hub.seen.find(({ host, range }) => host === 'cdn' && range !== null)?.range ?? '',
    /^bytes=[1-9]\d*-$/,
  );
});

test('a wrong checksum is fetched again once, then it is an error that keeps nothing', async () => {
  rig.hub.add('org/model', FILES);
  rig.hub.faults.corrupt = { path: WEIGHTS, times: 1 };
  const { dir } = await rig.pull('org/model');
  assertPulled(dir);

  rig.hub.add('org/other', FILES);
  rig.hub.faults.corrupt = { path: WEIGHTS, times: 2 };
  await assert.rejects(rig.pull('org/other'), code('download_corrupt', /model\.safetensors: its sha256 is wrong/));
  rig.hub.add('org/third', FILES);
  rig.hub.faults.corrupt = { path: 'config.json', times: 2 };
  await assert.rejects(rig.pull('org/third'), code('download_corrupt', /config\.json: its git-sha1 is wrong/));
  assertPulled((await rig.pull('org/other')).dir);
});

test('left-over bytes that are wrong do not survive the checksum', async () => {
  rig.hub.add('org/model', FILES);
  rig.hub.faults.hold = { path: WEIGHTS, afterBytes: 300_000 };
  const stop = new AbortController();
  const running = rig.pull('org/model', { signal: stop.signal });
  await rig.partialBytes('org/model', 300_000);
  stop.abort();
  await assert.rejects(running, code('cancelled'));
  const commit = rig.hub.add('org/model', FILES).refs.get('main') ?? '';
  const partials = join(rig.store.commitDir('org/model', commit), PARTIAL_DIR);
  for (const name of readdirSync(partials)) writeFileSync(join(partials, name), someBytes(100_000, 77));
  rig.hub.faults.hold = null;
  assertPulled((await rig.pull('org/model')).dir);
});

test('the token goes to the hub and to nobody else, and appears in no error', async () => {
  rig.hub.add('org/model', FILES);
  rig.hub.requiredToken = 'hf_secret';
  await assert.rejects(rig.pull('org/model'), code('hub_denied', /GatedRepo, no token was sent/));
  await assert.rejects(rig.pull('org/model', { token: 'hf_wrong' }), (err) => {
    assert.doesNotMatch((err as Error).message, /hf_wrong/);
    return code('hub_denied', /the token does not allow it/)(err);
  });
  rig.hub.seen.length = 0;
  const { dir } = await rig.pull('org/model', { token: 'hf_secret' });
  assertPulled(dir);
  const by = (host: string): (string | null)[] =>
    rig.hub.seen.filter((seen) => seen.host === host).map((seen) => seen.authorization);
  assert.ok(by('hub').length > 2 && by('hub').every((value) => value === 'Bearer hf_secret'));
  assert.ok(by('cdn').length > 0 && by('cdn').every((value) => value === null));
  for (const name of readdirSync(dir)) assert.ok(!readFileSync(join(dir, name)).includes('hf_secret'), name);
});

test('what is not there is said; a busy hub is asked again when it says so', async () => {
  await assert.rejects(rig.pull('org/none'), code('hub_not_found', /RepoNotFound/));
  rig.hub.add('org/model', FILES);
  await assert.rejects(rig.pull('org/model@v9'), code('hub_not_found', /RevisionNotFound/));
  rig.hub.faults.statuses.push({ status: 429, headers: { 'retry-after': '7' } }, { status: 503 });
  assertPulled((await rig.pull('org/model')).dir);
  assert.equal(rig.pauses[0], 7000);
  assert.ok((rig.pauses[1] ?? 0) < 7000);
  rig.hub.faults.statuses.push(...Array.from({ length: 6 }, () => ({ status: 502 })));
  await assert.rejects(rig.pull('org/model'), code('hub_unavailable', /answered 502 \(6 attempts\)/));
  const endpoint = chooseEndpoint(rig.hub.url, {});
  await rig.hub.stop();
  await assert.rejects(rig.pull('org/model', { endpoint }), code('hub_unavailable', /ECONNREFUSED/));
  await rig.hub.start();
});

test('names that would leave the folder are refused before anything is written', async () => {
  const hostile = ['../evil.json', 'a/../../evil.json', '/etc/evil.json', 'a//b.json', './x.json', 'nul\0.json'];
  for (const path of hostile) {
    rig.hub.add('org/model', FILES);
    rig.hub.extraEntries = [{ type: 'file', path, size: 3, oid: '0'.repeat(40) }];
    await assert.rejects(rig.pull('org/model'), code('hub_invalid', /unacceptable name/), path);
  }
  for (const path of ['.guildhall-pull.json', 'x.safetensors.outline', 'bell\u0007.json', 'c:evil.json']) {
    rig.hub.extraEntries = [{ type: 'file', path, size: 3, oid: '0'.repeat(40) }];
    await assert.rejects(rig.pull('org/model', { all: true }), code('hub_invalid', /unacceptable name/), path);
  }
  assert.deepEqual(readdirSync(rig.home), ['models']);
  assert.ok(!existsSync(join(rig.home, 'models', 'org--model', 'evil.json')));
});

test('a listing without a size or a checksum is refused', async () => {
  rig.hub.add('org/model', FILES);
  for (const entry of [
    { path: 'a.json', size: -1, oid: '0'.repeat(40) },
    { path: 'a.json', size: 1, oid: 'x' },
  ]) {
    rig.hub.extraEntries = [{ type: 'file', ...entry }];
    await assert.rejects(rig.pull('org/model'), code('hub_invalid', /listing/));
  }
  rig.hub.extraEntries = [{ type: 'file', path: 'CONFIG.json', size: 1, oid: '0'.repeat(40) }];
  await assert.rejects(rig.pull('org/model'), code('hub_invalid', /both/));
});

test('a file that changed is fetched again; --verify finds one that only looks the same', async () => {
  rig.hub.add('org/model', FILES);
  const { dir } = await rig.pull('org/model');
  truncateSync(join(dir, WEIGHTS), 1000);
  assert.equal((await rig.pull('org/model')).downloadedBytes, FILES[WEIGHTS].length);
  assertPulled(dir);

  const path = join(dir, WEIGHTS);
  const { atime, mtime } = statSync(path);
  const wrong = Buffer.from(FILES[WEIGHTS]);
  wrong[5] = (wrong[5] ?? 0) ^ 1;
  writeFileSync(path, wrong);
  utimesSync(path, atime, mtime);
  const { downloadedBytes } = await rig.pull('org/model', { verify: true });
  assert.equal(downloadedBytes, FILES[WEIGHTS].length);
  assertPulled(dir);
});

test('--dir: files that match stay, foreign ones are not overwritten, another model is refused', async () => {
  rig.hub.add('org/model', FILES);
  rig.hub.add('org/other', { ...FILES, 'config.json': Buffer.from('{}') });
  const dir = join(rig.home, 'mine');
  mkdirSync(dir);
  writeFileSync(join(dir, WEIGHTS), FILES[WEIGHTS]);
  const { reusedBytes } = await rig.pull('org/model', { dir });
  assert.equal(reusedBytes, FILES[WEIGHTS].length);
  assertPulled(dir);
  await assert.rejects(rig.pull('org/other', { dir }), code('config_invalid', /holds org\/model/));

  const second = join(rig.home, 'second');
  mkdirSync(second);
  writeFileSync(join(second, 'config.json'), 'precious');
  await assert.rejects(rig.pull('org/model', { dir: second }), code('config_invalid', /exists and is not/));
  assert.equal(readFileSync(join(second, 'config.json'), 'utf8'), 'precious');
});

test('two pulls of one model at once fetch every file once', async () => {
  rig.hub.add('org/model', FILES);
  const [a, b] = await Promise.all([rig.pull('org/model'), rig.pull('org/model')]);
  assertPulled(a.dir);
  assert.equal(Math.min(a.downloadedBytes, b.downloadedBytes), 0);
  assert.equal(rig.hub.filesAsked().filter((path) => path === WEIGHTS).length, 1);
});

test('a model is found by name once it was pulled; before, the error says how to get it', async () => {
  assert.throws(() => rig.store.find('org/model'), code('checkpoint_not_found', /run: guildhall pull org\/model$/));
  rig.hub.add('org/model', FILES, { v2: 'b'.repeat(40) });
  const { dir } = await rig.pull('org/model');
  assert.deepEqual(rig.store.find('org/model'), { dir, name: 'org/model' });
  assert.deepEqual(rig.store.find(dir), { dir, name: null });
  assert.throws(
    () => rig.store.find('org/model@v2'),
    code('checkpoint_not_found', /guildhall pull org\/model@v2.*so far: main/),
  );
  assert.throws(() => rig.store.find(rig.home), code('checkpoint_not_found', /holds no config\.json/));
});

test('more bytes than the disk has are refused before anything comes', async () => {
  const oid = 'a'.repeat(64);
  rig.hub.extraEntries = [
    {
      type: 'file',
      path: 'extra.safetensors',
      size: 2 ** 50,
      oid: '0'.repeat(40),
      lfs: { oid, size: 2 ** 50, pointerSize: 130 },
    },
  ];
  rig.hub.add('org/model', { ...SMALL, 'a.safetensors': someBytes(2000, 1) });
  await assert.rejects(rig.pull('org/model'), code('disk_full', /are to come, .* are free/));
  assert.deepEqual(
    rig.hub.filesAsked().filter((path) => path.endsWith('.safetensors')),
    [],
  );
});
