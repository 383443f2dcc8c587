import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, readdirSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { connectRedis, systemClock } from '@guildhall/common';
import { eventually, silentLogger } from '@guildhall/common/testing';
import type { Child } from './child.ts';
import { endProcesses } from './processes.ts';
import { chooseRedisEndpoint, redisUrl, startRedis } from './redis.ts';
import { StateDir } from './state-dir.ts';

const scratch = mkdtempSync(join(tmpdir(), 'guildhall-stack-redis-'));
after(() => rmSync(scratch, { recursive: true, force: true }));

type Client = ReturnType<typeof connectRedis>;

/** Runs `act` with a Redis on a state folder, and ends it. */
async function withRedis(state: StateDir, act: (redis: Client, child: Child) => Promise<void>): Promise<void> {
  state.ensure();
  const endpoint = await chooseRedisEndpoint();
  const child = await startRedis(endpoint, state, systemClock);
  const redis = connectRedis(redisUrl(endpoint), { logger: silentLogger(), clock: systemClock });
  try {
    await eventually(() => redis.status === 'ready', 'the connection');
    await act(redis, child);
  } finally {
    redis.disconnect();
    await endProcesses([child.record()], 5000, systemClock);
  }
}

/** Files that hold data. */
function dataFiles(state: StateDir): string[] {
  const dir = join(state.redisDir, 'appendonlydir');
  return readdirSync(dir).map((name) => join(dir, name));
}

test('what was written is there after SIGKILL; a file that ends in the middle of a command is read up to there', async () => {
  const state = new StateDir(join(scratch, 'killed'));
  await withRedis(state, async (redis, child) => {
    await redis.set('a', '1');
    await redis.set('b', '2');
    // While the disk takes what came before, Redis holds writes back for up to two seconds.
    await eventually(
      async () =>
        /aof_pending_rewrite:0[^]*aof_buffer_length:0\r[^]*aof_pending_bio_fsync:0\r/.test(
          await redis.info('persistence'),
        ),
      'the file to have all',
    );
    child.process.kill('SIGKILL');
    await child.exited;
  });
  const file = dataFiles(state).find((name) => name.endsWith('.incr.aof')) ?? '';
  truncateSync(file, statSync(file).size - 3);
  await withRedis(state, async (redis) => {
    assert.deepEqual(await redis.mget('a', 'b'), ['1', null]);
  });
});

test('a damaged file stops the start with advice, and forgetting it helps', async () => {
  const state = new StateDir(join(scratch, 'damaged'));
  await withRedis(state, async (redis) => {
    await redis.set('a', '1');
  });
  appendFileSync(
    dataFiles(state).find((name) => name.endsWith('.incr.aof')) ?? '',
    '*1\r\n$3\r\nno such thing\r\n*x\r\n',
  );
  await assert.rejects(
    withRedis(state, async () => undefined),
    (err: Error) => /--fresh/.test(err.message) && /redis-check-aof/.test(err.message),
  );
  state.forget();
  await withRedis(state, async (redis) => {
    assert.equal(await redis.get('a'), null);
  });
});

test('the file is written anew: what is written over and over takes no more and more of the disk', async () => {
  const state = new StateDir(join(scratch, 'bounded'));
  await withRedis(state, async (redis) => {
    const value = 'x'.repeat(100_000);
    for (let turn = 0; turn < 20; turn++) {
      const pipeline = redis.pipeline();
      for (let i = 0; i < 50; i++) pipeline.set('lease', value);
      await pipeline.exec();
    }
    // 100 MB were written; what is left is one value, and a file that has not reached its limit.
    await eventually(
      () => dataFiles(state).reduce((sum, name) => sum + statSync(name).size, 0) < 40 << 20,
      'the file to be written anew',
      60_000,
    );
  });
});
