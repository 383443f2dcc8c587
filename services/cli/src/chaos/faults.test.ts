import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ROOT } from '../stack/state-dir.ts';
import { FAULTS } from './faults/index.ts';

test('every fault has a name of its own, and docs/reliability.md says what it does', () => {
  const text = readFileSync(join(ROOT, 'docs', 'reliability.md'), 'utf8');
  const names = FAULTS.map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
  for (const { name, about, expected } of FAULTS) {
    assert.match(name, /^[a-z]+(-[a-z]+)*$/);
    const row = text.split('\n').find((line) => line.startsWith(`| \`${name}\``)) ?? '';
    assert.ok(row.includes(about) && row.includes(expected), `the row of ${name}`);
  }
});

test('a fault that lasts can be ended, and no other', () => {
  // The lead of a controller goes on after it has been stopped: an end without a time of its own.
  const endless = ['two-controllers'];
  const others = FAULTS.filter(({ name }) => !endless.includes(name));
  assert.deepEqual(
    others.filter(({ lasting, heal }) => (lasting === true) !== (heal !== undefined)).map(({ name }) => name),
    [],
  );
});
