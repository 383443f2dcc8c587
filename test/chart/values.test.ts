import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { METRICS } from '@guildhall/common';
import { parse } from 'yaml';
import { valueRows } from '../../scripts/chart/values-document.ts';
import { CHART, refusal, render } from './render.ts';

interface Node {
  type?: string;
  properties?: Record<string, Node>;
  items?: Node;
  additionalProperties?: unknown;
  description?: string;
  [key: string]: unknown;
}

const schema = JSON.parse(readFileSync(join(CHART, 'values.schema.json'), 'utf8')) as Node;
const text = readFileSync(join(CHART, 'values.yaml'), 'utf8');
const defaults = parse(text) as Record<string, unknown>;

/** Every object of the schema with names of its own, by its path. */
function objects(node: Node, path: string[] = []): [string[], Node][] {
  const below = Object.entries(node.properties ?? {}).flatMap(([name, child]) => objects(child, [...path, name]));
  const items = node.items === undefined ? [] : objects(node.items, [...path, '0']);
  return [...(node.properties === undefined ? [] : [[path, node] as [string[], Node]]), ...below, ...items];
}

/** Values with something at a path; a list on the way gets one entry, which has a name. */
function valuesAt(path: string[], value: unknown): unknown {
  const [first, ...rest] = path;
  if (first === undefined) return value;
  const inner = valuesAt(rest, value);
  if (first !== '0') return { [first]: inner };
  return [typeof inner === 'object' ? { name: 'a', ...inner } : inner];
}

test('the schema takes no name that it does not know, anywhere', () => {
  const all = objects(schema);
  assert.ok(all.length > 100, `${all.length} objects`);
  const open = all.filter(([, node]) => node.additionalProperties !== false).map(([path]) => path.join('.'));
  assert.deepEqual(open, []);
});

test('the schema refers to nothing beyond itself', () => {
  const references = [...JSON.stringify(schema).matchAll(/"\$ref":"([^"]*)"/g)].map(([, target]) => target);
  assert.deepEqual(
    references.filter((target) => !target?.startsWith('#')),
    [],
  );
});

test('helm names the unknown value, at every depth', async () => {
  const paths = objects(schema).map(([path]) => path);
  const some = paths.filter((_, index) => index % 9 === 0);
  for (const path of [[], ['router', 'config'], ['expertGroups', '0', 'config'], ['autoscaler', 'slo'], ...some]) {
    const said = await refusal(valuesAt(path, { noSuchValue: 1 }));
    assert.match(said, /'noSuchValue' not allowed/, path.join('.'));
  }
});

test('options that the chart decides are not taken under config', async () => {
  for (const [service, option] of [
    ['gateway', 'apiKey'],
    ['router', 'weights'],
    ['controller', 'cluster'],
  ] as const) {
    assert.match(await refusal({ [service]: { config: { [option]: 'x' } } }), new RegExp(`'${option}' not allowed`));
  }
  assert.match(await refusal({ experts: { defaults: { config: { model: 'x' } } } }), /'model' not allowed/);
});

test('options are checked as the services check them', async () => {
  assert.match(await refusal({ router: { config: { kvMemory: 'much' } } }), /kvMemory/);
  assert.match(await refusal({ router: { config: { pageTokens: 100 } } }), /pageTokens/);
  assert.match(await refusal({ experts: { defaults: { config: { drainMs: 10_000_000 } } } }), /drainMs/);
  assert.match(await refusal({ gateway: { config: { logLevel: 'loud' } } }), /logLevel/);
});

test('every value has a description in values.yaml and a type in the schema', () => {
  const rows = valueRows(text);
  assert.ok(rows.length > 180, `${rows.length} values`);
  for (const { path, description } of rows) {
    let node: Node | undefined = schema;
    for (const name of path) node = node?.properties?.[name];
    assert.ok(node !== undefined, `${path.join('.')} is in the schema`);
    assert.equal(node.description, description);
    assert.match(description, /^[`A-Z].*[.`]$/, `${path.join('.')}: a sentence`);
  }
});

test('the schema knows no value that values.yaml does not tell of', () => {
  const told = new Set(valueRows(text).map(({ path }) => path.join('.')));
  const untold = objects(schema)
    .filter(([path]) => !path.includes('config') && !path.includes('resources') && !path.includes('0'))
    .flatMap(([path, node]) => Object.keys(node.properties ?? {}).map((name) => [...path, name]))
    .filter((path) => path.length > 1 && !isPodValue(path))
    .filter((path) => !path.some((_, index) => told.has(path.slice(0, index + 1).join('.'))))
    .filter((path) => lookUp(path)?.properties === undefined)
    .map((path) => path.join('.'));
  assert.deepEqual(untold, []);
});

function lookUp(path: readonly string[]): Node | undefined {
  return path.reduce<Node | undefined>((node, name) => node?.properties?.[name], schema);
}

/** Whether a value is one of `pods` under the name of a workload, where values.yaml need not repeat it. */
function isPodValue(path: readonly string[]): boolean {
  const rest = path[0] === 'experts' ? path.slice(2) : path.slice(1);
  return ['gateway', 'router', 'experts', 'controller', 'batch'].includes(path[0] ?? '') && inPods(rest);
}

function inPods(rest: readonly string[]): boolean {
  return (
    rest.length > 0 &&
    rest.reduce<Node | undefined>((node, name) => node?.properties?.[name], schema.properties?.['pods']) !== undefined
  );
}

test('bounds of slow tokens are buckets of the histograms', () => {
  const { slo } = defaults['alerts'] as { slo: { ttftSeconds: number; itlSeconds: number } };
  const bucketsOf = (metric: keyof typeof METRICS): readonly number[] =>
    (METRICS[metric] as { buckets: number[] }).buckets;
  assert.ok(bucketsOf('vllm:time_to_first_token_seconds').includes(slo.ttftSeconds));
  assert.ok(bucketsOf('vllm:inter_token_latency_seconds').includes(slo.itlSeconds));
});

test('a false, a zero and an empty text take the place of a default', async () => {
  const objects = await render({
    pods: { topologySpread: true, minReadySeconds: 9 },
    gateway: { topologySpread: false, minReadySeconds: 0 },
    experts: { defaults: { autoscaler: { enabled: true } } },
    expertGroups: [{ name: 'a', autoscaler: { enabled: false }, replicas: 0 }],
    autoscaler: { mode: 'active' },
  });
  const find = (name: string): Record<string, unknown> =>
    objects.find(({ kind, metadata }) => kind === 'Deployment' && metadata.name === name)?.spec ?? {};
  assert.equal(find('guildhall-gateway')['minReadySeconds'], 0);
  assert.equal(find('guildhall-router')['minReadySeconds'], 9);
  assert.ok(!JSON.stringify(find('guildhall-gateway')).includes('topologySpreadConstraints'));
  assert.equal(find('guildhall-expert-a')['replicas'], 0);
});
