import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Ajv } from 'ajv';
import { parse } from 'yaml';
import { mustKnow } from '../catalogue/models.ts';
import { ROOT } from '../stack/state-dir.ts';
import type { PlanRequest } from './request.ts';
import { search } from './search.ts';
import { machine, request } from './testing/requests.ts';
import { helmValues } from './values.ts';

const schema = JSON.parse(readFileSync(join(ROOT, 'charts/guildhall/values.schema.json'), 'utf8')) as object;
const validate = new Ajv({ strict: false, allErrors: true }).compile(schema);

interface Values {
  model: Record<string, string>;
  router: { replicas: number; config: Record<string, unknown>; gpus?: number };
  expertGroups: { name: string; replicas: number; shard?: string; config: { weightMemoryMib: number } }[];
  controller?: { config: Record<string, number> };
  gpu?: { mode: string };
}

/** The values of a plan, which the chart's schema must accept. */
function valuesFor(asked: PlanRequest, source: string | null = null): Values {
  const text = helmValues(search(asked), { source });
  const values = parse(text) as Values;
  assert.ok(validate(values), JSON.stringify(validate.errors, null, 1));
  return values;
}

const SIXTEEN = machine({ kind: 'h100', count: 2, gpus: 8, network: '400Gbit' });

describe('values for the chart', () => {
  it('say the numbers and the memory of the plan', () => {
    const asked = request({ machines: [SIXTEEN] });
    const { chosen } = search(asked);
    const values = valuesFor(asked, 'pvc://weights');
    assert.equal(values.model['source'], 'pvc://weights');
    assert.equal(values.model['weights'], 'fp8');
    assert.equal(values.router.replicas, chosen.candidate.routers);
    assert.equal(values.router.config['kvMemory'], `${Math.ceil((chosen.router?.kv ?? 0) / 2 ** 20)}MiB`);
    assert.equal(values.gpu?.mode, 'devicePlugin');
    const [group] = values.expertGroups;
    assert.equal(group?.replicas, chosen.layout.groups[0]?.count);
    assert.ok((group?.config.weightMemoryMib ?? 0) * 2 ** 20 >= (chosen.workers[0]?.experts ?? Infinity));
    assert.equal(values.controller?.config['replicas'], 2);
  });

  it('have a group for each part of the layers', () => {
    const values = valuesFor(request({ machines: [SIXTEEN], layerShards: 4, workers: 12 }));
    assert.deepEqual(
      values.expertGroups.map(({ shard, replicas }) => [shard, replicas]),
      [
        ['1/4', 3],
        ['2/4', 3],
        ['3/4', 3],
        ['4/4', 3],
      ],
    );
    assert.equal(new Set(values.expertGroups.map(({ name }) => name)).size, 4);
  });

  it('leave experts in the routers where the plan does', () => {
    const laptop = machine({ kind: 'laptop' });
    const asked = request({ machines: [laptop], model: mustKnow('tiny'), weights: ['bf16'], experts: ['local'] });
    const values = valuesFor(asked);
    assert.equal(values.router.config['experts'], 'local');
    assert.deepEqual(values.expertGroups, []);
    assert.equal(values.gpu, undefined);
  });

  it('are refused by the schema when they have a field that the chart has not', () => {
    assert.equal(validate({ router: { replica: 1 } }), false);
  });
});
