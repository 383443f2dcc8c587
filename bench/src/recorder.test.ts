import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { parseArguments } from './arguments.ts';
import { Recorder } from './recorder.ts';
import { makeRow, missingRow } from './report.ts';
import type { BenchOptions } from './suite.ts';

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'guildhall-bench-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function options(argv: string[]): BenchOptions {
  const parsed = parseArguments(['engine', ...argv], root);
  assert.ok(typeof parsed !== 'string');
  return parsed.options;
}

function recorder(run: { argv?: string[]; only?: RegExp; resume?: boolean; commit?: string }): Recorder {
  const { argv = [], only = null, resume = false, commit = 'c' } = run;
  return new Recorder({ suite: 'engine', commit, options: options(argv), only, resume });
}

const row = (name: string, value: number) => makeRow({ name, unit: 'tokens/s', values: [value] });

test('rows that are not asked for are neither wanted nor kept', () => {
  const only = recorder({ only: /q8/ });
  assert.deepEqual([only.wants('m/q8/a'), only.wants('m/q4/a')], [true, false]);
  only.add(row('m/q8/a', 1));
  only.add(row('m/q4/a', 2));
  assert.deepEqual(
    only.rows().map(({ name }) => name),
    ['m/q8/a'],
  );
  assert.equal(only.wants('m/q8/a'), false);
});

test('a resumed run has the rows of the interrupted one, but not those that could not be measured', () => {
  const first = recorder({});
  first.add(row('a', 1));
  first.add(missingRow({ name: 'b', unit: 'tokens/s' }, 'no'));
  const second = recorder({ resume: true });
  assert.deepEqual([second.wants('a'), second.wants('b'), second.wants('c')], [false, true, true]);
  second.add(row('c', 3));
  // A third run still finds what the second one took over without measuring it.
  const third = recorder({ resume: true });
  assert.deepEqual([third.wants('a'), third.wants('c')], [false, false]);
  assert.equal(third.rows()[0]?.value, 1);
});

test('another commit, other options, or no --resume start afresh', () => {
  recorder({}).add(row('a', 1));
  assert.equal(recorder({ resume: true, commit: 'd' }).wants('a'), true);
  assert.equal(recorder({ resume: true, argv: ['--runs', '3'] }).wants('a'), true);
  assert.equal(recorder({}).wants('a'), true);
});

test('command lines that make no sense are refused with what is wrong', () => {
  const wrong: [string[], RegExp][] = [
    [[], /expected one suite/],
    [['engines'], /expected one suite/],
    [['engine', '--runs', '0'], /--runs: expected a whole number/],
    [['engine', '--weights', 'bf16,q5'], /--weights: .*q5/],
    [['engine', '--size', 'huge'], /--size/],
    [['engine', '--only', '('], /regular expression/i],
    [['engine', '--fast'], /--fast/],
  ];
  for (const [argv, message] of wrong) {
    const parsed = parseArguments(argv, root);
    assert.ok(typeof parsed === 'string');
    assert.match(parsed, message);
  }
});
