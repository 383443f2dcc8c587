import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { PROFILES } from './cases.ts';
import { object } from './manifests.ts';
import { CHART, helm, render } from './render.ts';

/** What `helm install` prints behind the objects. */
async function notes(values: Record<string, unknown>): Promise<string> {
  const args = ['install', 'guildhall', CHART, '--namespace', 'models', '--dry-run=client', '--hide-secret', '-f', '-'];
  const { code, stdout, stderr } = await helm(args, JSON.stringify(values));
  assert.equal(code, 0, stderr);
  return stdout.slice(stdout.indexOf('NOTES:'));
}

test('the notes name objects that exist, and the curl asks for the model that is served', async () => {
  const text = await notes({});
  const objects = await render({});
  const [, service = '', port] = /port-forward service\/(\S+) 8000:(\d+)/.exec(text) ?? [];
  assert.deepEqual(
    ((object(objects, 'Service', service).spec ?? {})['ports'] as { port: number }[])[0]?.port,
    Number(port),
  );
  const [, secret = '', key = ''] = /get secret (\S+) -o jsonpath='\{\.data\.([^}]+)\}'/.exec(text) ?? [];
  assert.ok(object(objects, 'Secret', secret).data?.[key] !== undefined);
  assert.match(text, /rollout status deployment\/guildhall-gateway/);
  assert.match(text, /-H "authorization: Bearer \$KEY"/);
  assert.match(text, /"model": "tiny"/);
  assert.match(text, /helm -n models test guildhall/);
});

test('the notes follow the values', async () => {
  const text = await notes({
    auth: { mode: 'none' },
    tests: { enabled: false },
    model: { source: 'pvc://c', names: ['org/name'] },
    gateway: { https: { existingSecret: 'web' } },
  });
  assert.match(text, /"model": "org\/name"/);
  assert.match(text, /curl -sk https:\/\//);
  assert.doesNotMatch(text, /Bearer|helm -n/);
  assert.match(text, /WARNING: auth\.mode is none/);
});

test('the notes say that GPUs are not used', async () => {
  assert.match(await notes({ gpu: { mode: 'devicePlugin' }, router: { gpus: 1 } }), /this version computes on CPUs/);
  assert.doesNotMatch(await notes({}), /computes on CPUs/);
});

test('the README names every profile, and only those', () => {
  const text = readFileSync(join(CHART, 'README.md'), 'utf8');
  const named = [...new Set([...text.matchAll(/values-[\w.-]+\.yaml/g)].map(([name]) => name))];
  assert.deepEqual(named, PROFILES);
});
