import assert from 'node:assert/strict';
import { test } from 'node:test';
import { soak } from '../harness/memory-soak.ts';

const AGING = ['--priority-aging-ms', '2000'];

test('a minute in a pool ten times too small, with and without copies', { timeout: 300_000 }, async (t) => {
  const copying = await soak({ seconds: 30, seed: 2, routerArgs: AGING });
  t.diagnostic(JSON.stringify(copying));
  assert.ok(copying.answers > 20 && copying.swaps > 0);
  const computing = await soak({
    seconds: 30,
    seed: 3,
    routerArgs: [...AGING, '--swap', 'off', '--prefix-cache', 'off'],
  });
  t.diagnostic(JSON.stringify(computing));
  assert.ok(computing.answers > 20 && computing.swaps === 0 && computing.recomputes > 0);
});
