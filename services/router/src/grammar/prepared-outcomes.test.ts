import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { PreparedOutcome } from './grammars.ts';
import { constraint, tinyGrammars } from './testing/walk.ts';

const told: PreparedOutcome[] = [];
const grammars = tinyGrammars({ onPrepared: (outcome) => told.push(outcome) });
after(() => grammars.stop());

test('each request with a grammar is told of once: compiled, shared, kept or refused', async () => {
  const asked = constraint({ regex: '[a-c]{2}' });
  await Promise.all([grammars.prepare(asked), grammars.prepare(asked)]);
  await grammars.prepare(asked);
  await assert.rejects(grammars.prepare(constraint({ grammar: 'root ::= nobody' })));
  assert.deepEqual(told.sort(), ['compiled', 'kept', 'refused', 'shared']);
});
