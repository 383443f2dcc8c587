import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeRow, missingRow } from '../report.ts';
import { chartsOf } from './charts.ts';

const machine = { cpu: 'CPU', cores: 2, threads: 2, memoryGiB: 1, kernel: 'k', node: 'n' };
const context = { machine, options: { size: 'bench' } as never };

test('the charts show the rows that have a value', () => {
  const row = (name: string, value: number) => makeRow({ name, unit: 'ms', values: [value] });
  const rows = [
    row('prefix/tiny/bf16/ttft/cold', 9000),
    row('prefix/tiny/bf16/ttft/hit', 30),
    missingRow({ name: 'prefix/tiny/bf16/ttft/pull', unit: 'ms' }, 'not there'),
    row('prefix/tiny/bf16/trace/off/goodput', 0),
    row('prefix/tiny/bf16/trace/off/output', 5),
    row('prefix/tiny/bf16/trace/off/ttft-p50', 700),
  ];
  const charts = chartsOf(rows, context);
  assert.deepEqual([...charts.keys()], ['ttft.png', 'goodput.png']);
  assert.deepEqual(charts.get('ttft.png')?.bars, [
    { category: 'computed', series: 'tiny/bf16', value: 9000 },
    { category: 'same router', series: 'tiny/bf16', value: 30 },
  ]);
  assert.deepEqual(charts.get('goodput.png')?.bars, [
    { category: 'no cache', series: 'tiny/bf16, within targets', value: 0 },
    { category: 'no cache', series: 'tiny/bf16, all', value: 5 },
  ]);
  assert.equal(chartsOf([], context).size, 0);
});
