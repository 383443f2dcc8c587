import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '@guildhall/common';
import { eventually, silentLogger } from '@guildhall/common/testing';
import { control } from '@guildhall/proto';
import { FakeRouter } from '../../../../test/fakes/fake-router.ts';
import { gatewaySchema } from '../config.ts';
import { routerConnector } from '../start.ts';
import { TINY_DIR } from '../testing/gateway-under-test.ts';
import { RouterPool } from './router-pool.ts';

test('a router that cannot tell its limits when it is found is asked until it has', async () => {
  const fake = await FakeRouter.start({ script: () => ({ tokens: [] }), maxContext: 777 });
  fake.infoFailures = 2;
  const value = Buffer.from(control.Member.encode(fake.member()).finish());
  const members = {
    stale: false,
    members: () => [{ kind: 'router', id: fake.id, value }],
    onChange: () => () => undefined,
  };
  const connect = routerConnector(gatewaySchema.parse({ model: TINY_DIR }));
  const pool = new RouterPool({ members, connect, clock: systemClock, logger: silentLogger() });
  try {
    assert.equal(await eventually(() => pool.maxContext, 'the router to have told'), 777);
    assert.ok(fake.infoFailures < 0);
  } finally {
    pool.close();
    await fake.stop();
  }
});
