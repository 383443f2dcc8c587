import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TokenBudget } from './budget.ts';

test('second calls stay under their share of the first, however many are wanted', () => {
  const budget = new TokenBudget({ share: 0.03 });
  let second = 0;
  for (let call = 0; call < 10_000; call++) {
    budget.earned();
    while (budget.spend()) second += 1;
  }
  assert.ok(second >= 299 && second <= 304, String(second));
});

test('a second call in several parts is made whole or not at all', () => {
  const budget = new TokenBudget({ share: 0.03, burst: 3 });
  assert.equal(budget.spend(2), true);
  assert.equal(budget.spend(2), false);
  assert.equal(budget.spend(1), true);
  assert.equal(budget.spend(1), false);
});

test('without a share nothing is hedged; late calls have a little of their own', () => {
  const budget = new TokenBudget({ share: 0 });
  assert.equal(budget.spend(), false);
  let late = 0;
  while (budget.spendLate()) late += 1;
  assert.equal(late, 8);
  for (let call = 0; call < 1000; call++) {
    budget.earned();
    if (budget.spendLate()) late += 1;
  }
  assert.ok(late >= 17 && late <= 18, String(late));
});
