import assert from 'node:assert/strict';
import { test } from 'node:test';
import { workload } from './manifests.ts';
import { allowed } from './network.ts';
import { render } from './render.ts';

/** Who calls whom, at which port; everything else is refused. */
const CALLS: Record<string, [string, number][]> = {
  gateway: [
    ['router', 9000],
    ['batch', 9000],
    ['valkey', 6379],
  ],
  router: [
    ['router', 9000],
    ['expert', 9000],
    ['valkey', 6379],
  ],
  expert: [
    ['expert', 9000],
    ['valkey', 6379],
  ],
  controller: [
    ['router', 9000],
    ['valkey', 6379],
  ],
  batch: [
    ['gateway', 8000],
    ['valkey', 6379],
  ],
  test: [
    ['gateway', 8000],
    ['valkey', 6379],
  ],
  valkey: [],
};

const PORTS = [8000, 9000, 9090, 6379];

test('pods reach exactly what they need, by the policies of both sides', async () => {
  const objects = await render({ batch: { enabled: true } });
  for (const [from, calls] of Object.entries(CALLS)) {
    for (const to of Object.keys(CALLS)) {
      for (const port of PORTS) {
        const wanted = calls.some(([name, number]) => name === to && number === port);
        const { out, into } = allowed(objects, workload(objects, from), workload(objects, to), port);
        // Callers of the API may be anybody.
        const open = to === 'gateway' && port === 8000;
        assert.deepEqual([out, into], [wanted, wanted || open], `${from} to ${to} at ${port}`);
      }
    }
  }
});

test('egress for pulling, traces and the API server is there only where it is needed', async () => {
  const text = async (values: Record<string, unknown>): Promise<string> =>
    JSON.stringify((await render(values)).filter(({ kind }) => kind === 'NetworkPolicy'));
  const plain = await text({});
  assert.ok(!plain.includes('4317') && plain.includes('6443'));
  const source = `hf://org/name@${'a'.repeat(40)}`;
  const pulled = await render({ model: { source }, networkPolicy: { pullTo: [{ ipBlock: { cidr: '10.0.0.0/8' } }] } });
  const rules = pulled.find(({ kind, metadata }) => kind === 'NetworkPolicy' && metadata.name === 'guildhall-expert');
  assert.deepEqual(((rules?.spec ?? {})['egress'] as unknown[]).at(-1), {
    ports: [{ protocol: 'TCP', port: 443 }],
    to: [{ ipBlock: { cidr: '10.0.0.0/8' } }],
  });
  assert.ok((await text({ tracing: { endpoint: 'http://otel:4317' } })).includes('4317'));
});
