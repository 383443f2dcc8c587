import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parse } from 'yaml';
import { PROFILES } from './cases.ts';
import { CHART, helm } from './render.ts';

const folder = mkdtempSync(join(tmpdir(), 'guildhall-package-'));
after(() => rmSync(folder, { recursive: true }));
const archive = join(folder, 'guildhall-0.1.0.tgz');

before(async () => {
  const { code, stderr } = await helm(['package', CHART, '--destination', folder]);
  assert.equal(code, 0, stderr);
});

for (const profile of [null, ...PROFILES]) {
  test(`helm lint --strict accepts ${profile ?? 'the defaults'}`, async () => {
    const file = profile === null ? [] : ['-f', join(CHART, profile)];
    const { code, stdout, stderr } = await helm(['lint', '--strict', CHART, ...file]);
    assert.equal(code, 0, stdout + stderr);
    assert.doesNotMatch(stdout, /\[(WARNING|ERROR)\]/);
  });
}

test('the package needs nothing else, and gives what the folder gives', async () => {
  const values = ['--set', 'auth.existingSecret=a,clusterToken.existingSecret=b,registry.bundled.existingSecret=c'];
  const [fromFolder, fromArchive] = await Promise.all(
    [CHART, archive].map((chart) => helm(['template', 'guildhall', chart, ...values])),
  );
  assert.equal(fromFolder?.code, 0, fromFolder?.stderr);
  assert.equal(fromArchive?.stdout, fromFolder?.stdout);
  const { dependencies } = parse(readFileSync(join(CHART, 'Chart.yaml'), 'utf8')) as { dependencies?: unknown };
  assert.equal(dependencies, undefined);
});

test('the versions of chart and repository are one', () => {
  const chart = parse(readFileSync(join(CHART, 'Chart.yaml'), 'utf8')) as { version: string; appVersion: string };
  const { version } = JSON.parse(readFileSync(join(CHART, '..', '..', 'package.json'), 'utf8')) as { version: string };
  assert.deepEqual([chart.version, chart.appVersion], [version, version]);
});

/** Runs gpg with a keyring of its own. */
function gpg(home: string, ...args: string[]): Buffer {
  const quiet = ['--homedir', home, '--batch', '--quiet', '--pinentry-mode', 'loopback', '--passphrase', ''];
  return execFileSync('gpg', [...quiet, ...args], { stdio: ['ignore', 'pipe', 'ignore'] });
}

test('a signed package is verified, and one that was changed is not', async (t) => {
  if (!existsSync('/usr/bin/gpg')) return t.skip('there is no gpg');
  const home = mkdtempSync(join(tmpdir(), 'gh-gpg-'));
  t.after(() => {
    execFileSync('gpgconf', ['--homedir', home, '--kill', 'all']);
    rmSync(home, { recursive: true });
  });
  gpg(home, '--quick-generate-key', 'Guildhall Test <test@guildhall.example>', 'rsa2048', 'sign', '1d');
  writeFileSync(join(home, 'secret.gpg'), gpg(home, '--export-secret-keys'));
  writeFileSync(join(home, 'public.gpg'), gpg(home, '--export'));
  const key = ['--key', 'Guildhall Test', '--keyring', join(home, 'secret.gpg')];
  const signed = await helm(['package', CHART, '--sign', ...key, '--destination', home]);
  assert.equal(signed.code, 0, signed.stderr);
  const file = join(home, 'guildhall-0.1.0.tgz');
  const verify = ['verify', file, '--keyring', join(home, 'public.gpg')];
  const good = await helm(verify);
  assert.equal(good.code, 0, good.stderr);
  assert.match(good.stdout, /Signed by: Guildhall Test/);
  const bytes = readFileSync(file);
  writeFileSync(file, Buffer.concat([bytes, Buffer.from([0])]));
  assert.notEqual((await helm(verify)).code, 0);
});
