import assert from 'node:assert/strict';
import { test } from 'node:test';
import { markdown, text, type Report } from './output.ts';
import { makeRow, median, missingRow, ratioOf, spreadOf } from './report.ts';

test('median and spread', () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.ok(Number.isNaN(median([])));
  assert.equal(spreadOf([8, 10, 12]), 0.2);
  assert.equal(spreadOf([5]), 0);
});

test('ratios are larger when ours is better, for rates and for times', () => {
  assert.equal(ratioOf(30, 10, 'more'), 3);
  assert.equal(ratioOf(5, 10, 'less'), 2);
});

const base = { name: 'a', unit: 'tokens/s', values: [100, 110, 90] };

test('a target is met by the ratio', () => {
  const row = makeRow({ ...base, peer: { name: 'p', values: [50, 40, 60] }, target: 2, stretch: 2.5 });
  assert.equal(row.value, 100);
  assert.equal(row.peer, 50);
  assert.equal(row.ratio, 2);
  assert.deepEqual([row.met, row.metBy, row.stretchMet], [true, 'ratio', false]);
  // Pairs 2, 2.75 and 1.5.
  assert.equal(row.pairedRatio, 2);
});

test('a target is met by the share of the ceiling, taken run by run, and the row says so', () => {
  const limit = { name: 'read bandwidth', unit: 'GB/s', used: [40, 60, 43], ceilings: [50, 70, 50] };
  const row = makeRow({ ...base, peer: { name: 'p', values: [99] }, limit, target: 2, limitTarget: 0.85 });
  assert.ok(Math.abs((row.limitShare ?? 0) - 60 / 70) < 1e-12);
  assert.deepEqual([row.met, row.metBy], [true, 'limit']);
  const missed = makeRow({ ...base, peer: { name: 'p', values: [99] }, limit, target: 2, limitTarget: 0.9 });
  assert.deepEqual([missed.met, missed.metBy], [false, null]);
});

test('without a target nothing is met or missed; without a peer there is no ratio', () => {
  const row = makeRow(base);
  assert.deepEqual([row.met, row.ratio, row.peer, row.target], [null, null, null, null]);
  const alone = makeRow({ ...base, target: 2 });
  assert.deepEqual([alone.met, alone.ratio], [false, null]);
});

test('what could not be measured misses its target and says why', () => {
  const row = missingRow({ name: 'a', unit: 'tokens/s', target: 2 }, 'not available');
  assert.deepEqual([row.value, row.met, row.note], [null, false, 'not available']);
});

test('tables have a line for every row', () => {
  const machine = { cpu: 'Some CPU', cores: 2, threads: 2, memoryGiB: 4, kernel: '6', node: 'v24' };
  const rows = [makeRow({ ...base, peer: { name: 'p', values: [50] }, target: 1.5 }), missingRow(base, 'why not')];
  const report: Report = { schema: 1, suite: 'engine', machine, commit: 'abc', rows };
  const lines = markdown(report).trimEnd().split('\n');
  assert.equal(lines.length, 2 + 2 + rows.length);
  assert.match(lines[0] ?? '', /Some CPU.*commit abc/);
  assert.match(lines[4] ?? '', /^\| a \| 100 \| tokens\/s \| 10 % \| 50 \| 2\.00× \| 1\.50× \| - \| yes \|/);
  assert.match(text(report), /why not/);
});
