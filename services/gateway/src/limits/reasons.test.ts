import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { errorInfo, fail } from '@guildhall/common';
import { reasonOf, REASONS, refusal } from './reasons.ts';

test('docs/api.md lists every reason with its status', () => {
  const text = readFileSync(new URL('../../../../docs/api.md', import.meta.url), 'utf8');
  const section = /^## Keys, quotas and usage$([^]*?)(?=^## |$(?![^]))/m.exec(text)?.[1] ?? '';
  const listed = [...section.matchAll(/^\| `([a-z_]+)` +\| (\d{3}) +\| (.*?) +\|$/gm)].map(
    ([, name, status, summary]) => [name, Number(status), summary],
  );
  const known = Object.entries(REASONS).map(([name, { code, summary }]) => [name, errorInfo(code).http, summary]);
  assert.deepEqual(listed, known);
});

test('an error has a reason when it was given one, or when its code is one', () => {
  assert.equal(reasonOf(refusal('too_large', 'x', null), false), 'too_large');
  assert.equal(reasonOf(fail('no_router', 'x'), false), 'no_router');
  assert.equal(reasonOf(fail('not_ready', 'no batch service'), false), null);
  assert.equal(reasonOf(fail('not_ready', 'x'), true), 'draining');
  assert.equal(reasonOf(fail('invalid_value', 'x', { details: { reason: 'constructor' } }), false), null);
});
