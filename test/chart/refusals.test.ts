import assert from 'node:assert/strict';
import { test } from 'node:test';
import { refusal, template } from './render.ts';

const COMMIT = 'a'.repeat(40);

/** Values that do not go together, and what has to be said of them. */
const REFUSED: [string, Record<string, unknown>, RegExp][] = [
  ['an unknown source', { model: { source: 'gs://x' } }, /model\.source: "gs:\/\/x" is not understood; write bundled/],
  ['a hub without a commit', { model: { source: 'hf://org/name' } }, /names no commit; pin one/],
  ['a hub by branch', { model: { source: 'hf://org/name@main' } }, /names no commit; pin one/],
  [
    'a bucket without a checksum',
    { model: { source: 's3://b/p', names: ['a'] } },
    /model\.sha256: a bucket can change/,
  ],
  ['a claim without a name to serve', { model: { source: 'pvc://c' } }, /model\.names: say under which name/],
  [
    'a folder of a hub',
    { model: { source: `hf://o/n@${COMMIT}`, path: 'x' } },
    /model\.path is a folder within a claim/,
  ],
  [
    'a store without its claim',
    { model: { source: `hf://o/n@${COMMIT}`, store: { type: 'pvc' } } },
    /model\.store\.claimName/,
  ],
  ['a cache without its folder', { model: { weightsCache: { type: 'hostPath' } } }, /model\.weightsCache\.hostPath/],
  [
    'two scalers of the routers',
    { autoscaler: { mode: 'active' }, router: { autoscaling: { type: 'hpa' } } },
    /two scalers would fight over the routers: set router\.autoscaling\.type to none/,
  ],
  ['KEDA without a trigger', { gateway: { autoscaling: { type: 'keda' } } }, /gateway\.autoscaling\.triggers/],
  [
    'an HPA without a metric',
    { router: { autoscaling: { type: 'hpa', cpuUtilisation: null } } },
    /router\.autoscaling: the HPA needs a metric/,
  ],
  ['a minimum above the maximum', { router: { autoscaling: { min: 20 } } }, /router\.autoscaling: min is above max/],
  [
    'zero without routers',
    { autoscaler: { mode: 'recommend', scaleToZero: { enabled: true } }, router: { autoscaler: { enabled: false } } },
    /scaleToZero needs router\.autoscaler\.enabled/,
  ],
  [
    'zero without requests that wait',
    { autoscaler: { mode: 'active', scaleToZero: { enabled: true } } },
    /set gateway\.config\.holdMs to longer than a start takes/,
  ],
  ['pods that are called back', { autoscaler: { scaleDownUtilisation: 0.65 } }, /scaleDownUtilisation is above/],
  ['two groups of a name', { expertGroups: [{ name: 'a' }, { name: 'a' }] }, /two groups are named a/],
  ['workers that nobody asks', { router: { config: { experts: 'local' } } }, /set expertGroups to \[\]/],
  ['no workers', { expertGroups: [] }, /expertGroups is empty/],
  [
    'only workers without files',
    { expertGroups: [{ name: 'a', fromPeers: { enabled: true } }] },
    /leave one group without/,
  ],
  [
    'a shard from peers',
    { expertGroups: [{ name: 'a' }, { name: 'b', shard: '1/2', fromPeers: { enabled: true } }] },
    /leave shard empty/,
  ],
  [
    'more redundancy than workers',
    { expertGroups: [{ name: 'a', autoscaler: { redundancy: 5 } }] },
    /autoscaler\.redundancy is above autoscaler\.max/,
  ],
  [
    'an external Redis without an address',
    { registry: { mode: 'external' } },
    /registry\.external: give url, or existingSecret/,
  ],
  [
    'a password in a URL',
    { registry: { mode: 'external', external: { url: 'redis://:secret@h:6379' } } },
    /holds a password.*put it into a Secret/,
  ],
  ['another kind of store', { registry: { mode: 'external', external: { url: 'memcached://h' } } }, /write redis:\/\//],
  [
    'keys of a Secret without the Secret',
    { registry: { mode: 'external', external: { url: 'redis://h', passwordKey: 'p' } } },
    /registry\.external\.existingSecret: name the Secret/,
  ],
  ['two batch pods on a volume for one', { batch: { enabled: true, replicas: 2 } }, /accessMode to ReadWriteMany/],
  [
    'batches to gateways with HTTPS of unknown name',
    { batch: { enabled: true }, gateway: { https: { existingSecret: 'web' } } },
    /batch\.config\.gatewayUrl/,
  ],
  ['an Ingress without a host', { gateway: { ingress: { enabled: true } } }, /gateway\.ingress\.hosts/],
  ['an HTTPRoute without a Gateway', { gateway: { httpRoute: { enabled: true } } }, /gateway\.httpRoute\.parentRefs/],
  ['a pool without a picker', { inferencePool: { enabled: true } }, /inferencePool\.endpointPicker\.name/],
  [
    'a second generation without machines for it',
    { model: { rollout: 'sideBySide' }, experts: { noSpareMachines: true } },
    /set model\.rollout to recreate/,
  ],
  [
    'a name that is too long',
    { fullnameOverride: 'a'.repeat(40), expertGroups: [{ name: 'b'.repeat(30) }] },
    /Kubernetes allows 63: set a shorter fullnameOverride/,
  ],
  [
    'a wrong unit',
    { expertGroups: [{ name: 'a', resources: { limits: { memory: '4m' } } }] },
    /is no quantity of memory/,
  ],
];

for (const [name, values, message] of REFUSED) {
  test(`${name} is refused with what to do`, async () => {
    const said = await refusal(values);
    assert.match(said, message);
    assert.doesNotMatch(said, /nil pointer|wrong type|unexpected/i);
  });
}

test('a secret of the values is not printed by a refusal', async () => {
  const { stderr } = await template({ registry: { mode: 'external', external: { url: 'redis://:hunter2@h' } } });
  assert.doesNotMatch(stderr, /hunter2/);
});
