import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { stringify } from 'yaml';
import { ROOT } from '../harness/service-process.ts';
import { CASES } from './alert-cases.ts';
import { rules, rulesText } from './alert-rules.ts';
import { isKnown, namesIn, problemsOf } from './metric-names.ts';

const dir = mkdtempSync(join(tmpdir(), 'guildhall-alerts-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const rulesFile = join(dir, 'rules.yaml');
writeFileSync(rulesFile, rulesText());
const alerts = rules().flatMap((rule) => (rule.alert === undefined ? [] : [rule]));

function promtool(...args: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr, error } = spawnSync('promtool', args, { encoding: 'utf8' });
  if (error !== undefined) throw new Error(`promtool is missing; install the package prometheus (${error.message})`);
  return { status, output: stdout + stderr };
}

test('Prometheus accepts the rules', () => {
  const { status, output } = promtool('check', 'rules', rulesFile);
  assert.equal(status, 0, output);
});

test('every alert fires when it should, and not otherwise', () => {
  const tests = CASES.map(({ alert, about, series, atMinute, fires }) => ({
    name: `${alert} ${about}`,
    interval: '1m',
    input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
    promql_expr_test: [
      {
        expr: `sum(clamp_max(count by (alertname) (ALERTS{alertname="${alert}",alertstate="firing"}), 1))`,
        eval_time: `${atMinute}m`,
        exp_samples: fires ? [{ labels: '{}', value: 1 }] : [],
      },
    ],
  }));
  const file = join(dir, 'tests.yaml');
  writeFileSync(file, stringify({ rule_files: [rulesFile], evaluation_interval: '1m', tests }));
  const { status, output } = promtool('test', 'rules', file);
  assert.equal(status, 0, output);
});

test('every alert has a situation in which it fires and one in which it does not', () => {
  for (const { alert } of alerts) {
    const cases = CASES.filter((one) => one.alert === alert);
    for (const wanted of [true, false])
      assert.ok(
        cases.some(({ fires }) => fires === wanted),
        `${alert}: ${wanted}`,
      );
  }
  const names = new Set(alerts.map(({ alert }) => alert));
  assert.deepEqual(
    CASES.filter(({ alert }) => !names.has(alert)).map(({ alert }) => alert),
    [],
  );
});

test('rules name metrics and labels that exist', () => {
  for (const rule of rules()) {
    assert.deepEqual(problemsOf(rule.expr), [], rule.alert ?? rule.record);
    assert.deepEqual(
      namesIn(rule.expr).filter((name) => !isKnown(name)),
      [],
      rule.alert ?? rule.record,
    );
  }
});

test('the runbook has a section for every alert, and none for others', () => {
  const text = readFileSync(join(ROOT, 'docs', 'alerts.md'), 'utf8');
  const sections = [...text.matchAll(/^### (Guildhall\w+)$/gm)].map(([, name]) => name);
  assert.deepEqual(new Set(sections), new Set(alerts.map(({ alert }) => alert)));
  assert.equal(sections.length, alerts.length);
  for (const { alert, annotations, labels } of alerts) {
    assert.equal(annotations?.['runbook_url'], `docs/alerts.md#${alert?.toLowerCase()}`);
    assert.match(labels?.['severity'] ?? '', /^(critical|warning)$/);
  }
});
