import assert from 'node:assert/strict';
import { test } from 'node:test';
import { soak } from '../harness/memory-soak.ts';

test(
  'many streams in a pool ten times too small get the answers that they get alone',
  { timeout: 120_000 },
  async (t) => {
    const report = await soak({ seconds: 8, seed: 1, routerArgs: ['--priority-aging-ms', '2000'] });
    t.diagnostic(JSON.stringify(report));
    assert.ok(report.answers > 8, 'the router is at work');
    assert.ok(report.swaps + report.recomputes > 0, 'the pool was too small');
  },
);
