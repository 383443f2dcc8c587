import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@guildhall/common';
import { BURST, FailedAttempts, networkOf } from './failed-attempts.ts';

test('an address has a burst of attempts and then one a second, others their own', async () => {
  const clock = new FakeClock();
  const attempts = new FailedAttempts(clock);
  const spend = (address: string): number => {
    let count = 0;
    while (attempts.take(address)) count += 1;
    return count;
  };
  assert.equal(spend('10.0.0.1'), BURST);
  assert.equal(attempts.waitS('10.0.0.1'), 1);
  assert.equal(spend('10.0.0.2'), BURST);
  await clock.advance(3500);
  assert.equal(spend('10.0.0.1'), 3);
  await clock.advance(10_000_000);
  assert.equal(spend('10.0.0.1'), BURST);
});

test('right keys give their attempt back, and addresses do not pile up', () => {
  const attempts = new FailedAttempts(new FakeClock());
  for (let i = 0; i < 1000; i++) {
    assert.ok(attempts.take('10.0.0.1'));
    attempts.giveBack('10.0.0.1');
  }
  assert.equal(attempts.size, 0);
  for (let i = 0; i < 50_000; i++) attempts.take(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`);
  assert.equal(attempts.size, 10_000);
});

test('addresses of one IPv6 network count as one, however they are written', () => {
  assert.equal(networkOf('2001:db8:1:2:3:4:5:6'), networkOf('2001:0db8:1:2::9'));
  assert.notEqual(networkOf('2001:db8:1:2::1'), networkOf('2001:db8:1:3::1'));
  assert.equal(networkOf('::1'), '0:0:0:0::/64');
  assert.equal(networkOf('fe80::1%eth0'), 'fe80:0:0:0::/64');
  assert.equal(networkOf('::ffff:10.0.0.1'), '10.0.0.1');
  assert.equal(networkOf('10.0.0.1'), '10.0.0.1');
});
