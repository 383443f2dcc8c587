import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { type ErrorCode, isGuildhallError } from '@guildhall/common';
import type { JoinedDir } from './joined-dir.ts';
import { workerArgs, workerEnvironment } from './joined-worker.ts';
import { type Entered, enterCluster, isRenewalDue, type JoinWish } from './membership.ts';
import { JoinRig } from './testing/join-rig.ts';
import { formatToken } from './tokens.ts';

const NOTHING: JoinWish = {
  url: null,
  token: null,
  id: null,
  memoryMib: null,
  threads: null,
  advertise: null,
  port: null,
  failureDomain: null,
  model: null,
};

let rig: JoinRig;
let home: string;
beforeEach(async () => {
  rig = await JoinRig.start();
  home = mkdtempSync(join(tmpdir(), 'guildhall-joined-'));
});
afterEach(async () => {
  await rig.stop();
  rmSync(home, { recursive: true, force: true });
});

const isCode =
  (code: ErrorCode, text = /./) =>
  (error: unknown): boolean => {
    assert.ok(isGuildhallError(error), String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, text);
    return true;
  };

function enter(wish: Partial<JoinWish>): Promise<Entered> {
  return enterCluster({ ...NOTHING, ...wish }, { GUILDHALL_HOME: home }, rig.clock);
}

async function line(): Promise<{ url: string; token: string }> {
  return { url: `https://127.0.0.1:${rig.port}`, token: formatToken(await rig.token()) };
}

/** Joins and ends at once. */
async function joined(wish: Partial<JoinWish> = {}): Promise<JoinedDir> {
  const { dir, lock } = await enter({ ...(await line()), ...wish });
  lock.release();
  return dir;
}

/** Serial number of the certificate in force; its key has to be the one beside it. */
function serialOf(dir: JoinedDir): string {
  const { certificate, key } = dir.membership();
  const leaf = new X509Certificate(readFileSync(dir.file(certificate)));
  assert.ok(leaf.checkPrivateKey(createPrivateKey(readFileSync(dir.file(key)))));
  return leaf.serialNumber;
}

test('a machine joins once; afterwards its folder is enough, and the certificate is new each time', async () => {
  const dir = await joined({ memoryMib: 512, failureDomain: 'rack-1' });
  const { id, advertise, port } = dir.config();
  assert.equal(id, 'expert-1');
  // The address is that of its connection to the head.
  assert.equal(advertise, '127.0.0.1');
  assert.ok(port >= 7600);
  const first = serialOf(dir);
  const again = await enter({ memoryMib: 1024 });
  assert.equal(again.isNew, false);
  assert.equal(again.headAway, null);
  assert.equal(again.dir.path, dir.path);
  assert.deepEqual([dir.config().memoryMib, dir.config().failureDomain], [1024, 'rack-1']);
  assert.notEqual(serialOf(dir), first);
  const files = readdirSync(dir.path).filter((name) => /\.(key|pem)$/.test(name));
  assert.deepEqual(files.sort(), ['ca.pem', dir.membership().certificate, dir.membership().key].sort());
  assert.equal(rig.dir.members.list().length, 1);
  again.lock.release();
});

test('the line that joined a machine resumes it when it is run again', async () => {
  const said = await line();
  const first = await enter(said);
  await assert.rejects(enter(said), isCode('id_in_use', /already runs/));
  first.lock.release();
  const second = await enter(said);
  assert.equal(second.isNew, false);
  second.lock.release();
});

test('several members of one machine are told apart by their ids', async () => {
  const one = await joined({ id: 'expert-7' });
  const two = await joined({ id: 'expert-8' });
  assert.notEqual(one.path, two.path);
  await assert.rejects(enter({}), isCode('config_invalid', /expert-7, expert-8.*--id/));
  const { dir, lock } = await enter({ id: 'expert-8' });
  assert.equal(dir.path, two.path);
  lock.release();
});

test('without a folder and without a token it is said what is missing', async () => {
  await assert.rejects(enter({}), isCode('config_invalid', /token create/));
  await assert.rejects(enter({ id: 'expert-7' }), isCode('config_invalid', /expert-7 has not joined/));
  const { url } = await line();
  await assert.rejects(enter({ url }), isCode('config_invalid', /token create/));
});

test('a head that is away does not keep a member from starting while its certificate counts', async () => {
  const dir = await joined();
  const before = serialOf(dir);
  await rig.stopServer();
  const { headAway, lock } = await enter({});
  assert.match(headAway ?? '', /cannot be reached/);
  assert.equal(serialOf(dir), before);
  lock.release();
  await rig.clock.advance(31 * 86_400_000);
  await assert.rejects(enter({}), isCode('peer_unavailable'));
});

test('a member that was removed comes back with a new token only', async () => {
  const dir = await joined();
  await rig.dir.members.remove('expert-1');
  await assert.rejects(enter({}), isCode('forbidden', /removed/));
  const { isNew, lock, dir: back } = await enter(await line());
  assert.equal(isNew, true);
  assert.equal(back.path, dir.path);
  assert.equal(back.config().id, 'expert-1');
  lock.release();
});

test('what peers gave of another model goes, what they gave of this one stays', async () => {
  const dir = await joined();
  mkdirSync(dir.modelDir);
  writeFileSync(join(dir.modelDir, 'config.json'), '{}');
  (await enter({})).lock.release();
  assert.ok(existsSync(dir.modelDir));
  rig.settings = { ...rig.settings, modelFingerprint: 'another' };
  (await enter({})).lock.release();
  assert.ok(!existsSync(dir.modelDir));
});

test('a cluster that was set up anew is another one, also at the same address', async () => {
  await joined({ id: 'expert-5' });
  const old = rig;
  rig = await JoinRig.start();
  await old.stop();
  const said = await line();
  const { isNew, dir, lock } = await enter({ ...said, id: 'expert-5' });
  assert.equal(isNew, true);
  assert.equal(dir.config().authority, rig.dir.authority().hash);
  lock.release();
});

test('the worker is told what the cluster has agreed on, and secrets are no arguments', async () => {
  const dir = await joined({ memoryMib: 256, threads: 3, failureDomain: 'rack-2', port: 7777 });
  const [config, membership] = [dir.config(), dir.membership()];
  const args = workerArgs(dir, config, membership);
  const flag = (name: string): string | undefined => args[args.indexOf(name) + 1];
  assert.equal(flag('--weights'), 'f32');
  assert.equal(flag('--bf16-kernels'), 'bf16-fma');
  assert.equal(flag('--combine'), 'exact');
  assert.equal(flag('--weight-memory-mib'), '256');
  assert.equal(flag('--listen'), '127.0.0.1:7777');
  assert.equal(flag('--model'), dir.modelDir);
  assert.ok(args.includes('--model-from-peers'));
  const env = workerEnvironment(dir, config, membership);
  assert.equal(env['GUILDHALL_REDIS'], `rediss://member-expert-1:${membership.redisPassword}@127.0.0.1:1/0`);
  assert.equal(env['GUILDHALL_TLS_CERT'], dir.file(membership.certificate));
  for (const secret of [membership.redisPassword, membership.cluster.clusterToken])
    assert.ok(!args.join(' ').includes(secret));
  const own = workerArgs(dir, { ...config, model: '/models/mine' }, membership);
  assert.ok(!own.includes('--model-from-peers'));
});

test('a certificate is renewed when two thirds of its time are over', async () => {
  const membership = (await joined()).membership();
  const start = rig.clock.nowMs();
  assert.equal(isRenewalDue(membership, start + 19 * 86_400_000), false);
  assert.equal(isRenewalDue(membership, start + 20 * 86_400_000), true);
});
