import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, it } from 'node:test';
import { kvFormatOf } from '@guildhall/model/weights';
import type { WeightFormat } from '@guildhall/native';
import { parse } from 'yaml';
import { findModel, mustKnow } from '../catalogue/models.ts';
import { bytesOf } from '../catalogue/units.ts';
import { planCommand } from '../commands/plan.ts';
import { ROOT } from '../stack/state-dir.ts';
import { ROUTER_SETTINGS } from './evaluate.ts';
import { requestOf } from './flags.ts';
import { type Layout, makeLayout, type PlannedModel, planModel } from './layout.ts';
import { configuredRouter, workerMemory } from './memory.ts';
import { search } from './search.ts';
import { machine } from './testing/requests.ts';

const CHART = join(ROOT, 'charts/guildhall');

interface Pod {
  replicas: number;
  config: Record<string, unknown>;
  resources: { limits: { memory: string } };
}

interface Profile {
  model: { source: string; weights: WeightFormat; kvDtype: 'auto' };
  router: Pod;
  experts: { defaults: Pod & { weightMemoryShare: number } };
  expertGroups: (Partial<Pod> & { name: string; shard?: string })[];
}

/** Values of a profile over those of the chart, as Helm merges them. */
function merged(over: unknown, base: unknown): unknown {
  const isObject = (value: unknown): value is Record<string, unknown> =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!isObject(over) || !isObject(base)) return over ?? base;
  const keys = new Set([...Object.keys(base), ...Object.keys(over)]);
  return Object.fromEntries([...keys].map((key) => [key, merged(over[key], base[key])]));
}

const readYaml = (file: string): unknown => parse(readFileSync(file, 'utf8'));

/** `56Gi` of Kubernetes or `4GiB` of an option. */
const sizeOf = (text: unknown): number => bytesOf('a size', `${String(text).replace(/B$/, '')}B`);

function modelOf({ model: { source, weights, kvDtype } }: Profile): PlannedModel {
  const known =
    source === 'bundled' ? mustKnow('tiny') : findModel(source.replace(/^\w+:\/\//, '').replace(/@.*/, ''), {});
  return planModel(known, weights, kvFormatOf(weights, kvDtype));
}

/** A layout with the profile's workers; groups with a shard have a part of the layers each. */
function layoutOf(profile: Profile): { layout: Layout; workers: { share: number; pod: Pod }[] } {
  const pods = profile.expertGroups.map((group) => merged(group, profile.experts.defaults) as Pod & { shard?: string });
  const total = pods.reduce((sum, { replicas }) => sum + replicas, 0);
  const local = profile.router.config['experts'] === 'local';
  const here = machine({ kind: 'cpu-12ch', count: total + profile.router.replicas });
  const layout = makeLayout({
    model: modelOf(profile),
    router: here,
    routers: profile.router.replicas,
    groups: local ? [] : [{ machine: here, count: total, share: 1 / total }],
    copies: local ? 1 : Math.min(2, total / Math.max(1, shardsOf(profile))),
    layerShards: local ? 1 : shardsOf(profile),
    combine: 'exact',
    oneMachine: false,
    settings: ROUTER_SETTINGS,
  });
  return { layout, workers: local ? [] : pods.map((pod) => ({ share: 1 / total, pod })) };
}

function shardsOf({ expertGroups }: Profile): number {
  return Math.max(1, expertGroups.filter(({ shard }) => (shard ?? '') !== '').length);
}

for (const file of globSync('values-*.yaml', { cwd: CHART })) {
  const text = readFileSync(join(CHART, file), 'utf8');
  const profile = merged(readYaml(join(CHART, file)), readYaml(join(CHART, 'values.yaml'))) as Profile;

  describe(`the profile ${basename(file)}`, () => {
    it('gives its routers the memory that they take', () => {
      const { layout } = layoutOf(profile);
      const { config, resources } = profile.router;
      const memory = configuredRouter(layout, {
        maxRunning: Number(config['maxRunning'] ?? 64),
        kvBytes: sizeOf(config['kvMemory'] ?? '256MiB'),
        snapshotBytes: config['snapshotMemory'] === undefined ? null : sizeOf(config['snapshotMemory']),
      });
      const host = sizeOf(config['kvHostMemory'] ?? '256MiB');
      const limit = sizeOf(resources.limits.memory);
      assert.ok(memory.total + host <= limit, `a router takes ${memory.total + host} of ${limit}`);
    });

    it('gives its workers room for every expert, and the memory for it', () => {
      const { layout, workers } = layoutOf(profile);
      for (const { share, pod } of workers) {
        const limit = sizeOf(pod.resources.limits.memory);
        const memory = workerMemory(layout, layout.router, share, limit);
        const given = pod.config['weightMemoryMib'];
        const mayHold =
          given === undefined ? limit * profile.experts.defaults.weightMemoryShare : Number(given) * 2 ** 20;
        assert.ok(memory.experts <= mayHold, `${memory.experts} of experts, ${mayHold} may be held`);
        assert.ok(memory.total <= limit, `a worker takes ${memory.total} of ${limit}`);
      }
    });

    for (const [, command] of text.matchAll(/`guildhall plan ([^`]+)`/g)) {
      it(`is what a plan for its machines says: ${command}`, () => {
        const plan = planCommand();
        plan.parseOptions((command ?? '').split(/\s+/));
        const { chosen } = search(requestOf(plan.opts(), {}));
        assert.deepEqual(
          chosen.shortfalls.filter((short) => short.endsWith('_memory')),
          [],
        );
        assert.equal(chosen.layout.model.print.weights, profile.model.weights);
        assert.equal(chosen.candidate.experts === 'local', profile.expertGroups.length === 0);
      });
    }
  });
}
