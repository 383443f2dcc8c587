import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually } from '@guildhall/common/testing';
import { bitsOf, type Call, promptOf, type RigRequest, RouterRig } from './testing/router-rig.ts';

const REQUESTS: RigRequest[] = [0, 1, 2].map((i) => ({
  promptIds: promptOf(30 + 60 * i, i),
  sampling: { temperature: 0.9, seed: BigInt(i) },
  stop: { maxTokens: 60 },
}));

async function underWay(calls: readonly Call[]): Promise<void> {
  await eventually(() => calls.every(({ result }) => result.tokens.length > 5), 'every stream to be under way');
}

/** Starts the requests, does something in their midst, and checks that no bit of the answers changed. */
async function unchangedBy(rig: RouterRig, disturb: () => unknown): Promise<void> {
  const expected = await Promise.all(REQUESTS.map((request) => rig.generate(request)));
  const calls = REQUESTS.map((request) => rig.call(request));
  await underWay(calls);
  await disturb();
  const answers = await Promise.all(calls.map(({ done }) => done));
  assert.deepEqual(
    answers.map(({ error }) => error),
    [null, null, null],
  );
  assert.deepEqual(answers.map(bitsOf), expected.map(bitsOf));
  await rig.idle();
}

test('a worker killed in mid-stream changes nothing where another holds its experts', async () => {
  await RouterRig.run({ replicas: 2 }, async (rig) => {
    await unchangedBy(rig, () => rig.processes.get('expert-1')?.end('SIGKILL'));
    const after = await rig.generate();
    assert.deepEqual([...(after.finished?.expertRows.keys() ?? [])], ['expert-2']);
  });
});

test('a worker that hangs is given up, and its rows go elsewhere', async () => {
  await RouterRig.run({ replicas: 2, routerArgs: ['--reply-limit-ms', '500'] }, async (rig) => {
    await unchangedBy(rig, () => rig.processes.get('expert-2')?.child.kill('SIGSTOP'));
  });
});

test('a worker killed without a replica is a pause, until the others have loaded its experts', async () => {
  await RouterRig.run({}, async (rig) => {
    await unchangedBy(rig, () => rig.processes.get('expert-1')?.end('SIGKILL'));
    const info = await rig.info();
    assert.ok(info.epoch > 1n);
    assert.equal(info.ready, true);
    // Nothing moves back under running streams either: a worker joins and takes its share.
    await unchangedBy(rig, async () => {
      rig.addWorker('expert-3');
      await eventually(async () => (await rig.info()).epoch > info.epoch, 'the next epoch');
    });
    const answer = await rig.generate();
    assert.deepEqual([...(answer.finished?.expertRows.keys() ?? [])].sort(), ['expert-2', 'expert-3']);
  });
});

test('when no worker is left requests wait, fail after their time, and are served again when one comes', async () => {
  await RouterRig.run({ workers: 1, routerArgs: ['--expert-wait-ms', '1500'] }, async (rig) => {
    const expected = await rig.generate();
    const running = rig.call({ stop: { maxTokens: 5000 } });
    await underWay([running]);
    await rig.processes.get('expert-1')?.end('SIGKILL');
    const late = rig.call();
    const { error } = await running.done;
    assert.equal(error?.code, 'expert_unavailable');
    assert.match(error?.message ?? '', /layer \d+ experts \d+, /);
    assert.equal((await late.done).error?.code, 'expert_unavailable');
    await rig.idle();
    assert.equal((await rig.info()).ready, false);
    assert.match((await rig.info()).notReadyReason, /experts have no live worker/);
    rig.addWorker('expert-2');
    await rig.ready();
    assert.deepEqual(bitsOf(await rig.generate()), bitsOf(expected));
  });
});

test('with a fallback the router computes by itself, to the bit, what no worker is left for', async () => {
  const flags = [
    '--expert-fallback',
    'local',
    '--expert-fallback-after-ms',
    '100',
    '--expert-fallback-memory',
    '16MiB',
  ];
  await RouterRig.run({ workers: 1, routerArgs: flags }, async (rig) => {
    await unchangedBy(rig, () => rig.processes.get('expert-1')?.end('SIGKILL'));
    const answer = await rig.generate();
    assert.deepEqual([...(answer.finished?.expertRows.keys() ?? [])], [(await rig.info()).routerId]);
    assert.equal((await rig.info()).ready, true);
    rig.addWorker('expert-2');
    await eventually(async () => {
      const { finished } = await rig.generate();
      return [...(finished?.expertRows.keys() ?? [])].join() === 'expert-2';
    }, 'the worker to take over');
  });
});

test('with a fallback, requests that come while every expert is lost are served, and one that is cancelled holds up nobody', async () => {
  const flags = ['--expert-fallback', 'local', '--expert-fallback-after-ms', '1000', '--prefix-cache', 'off'];
  await RouterRig.run({ workers: 1, routerArgs: flags }, async (rig) => {
    // Prompts of several steps each, that are computed beside the running streams.
    const late: RigRequest[] = [3, 4].map((i) => ({ promptIds: promptOf(700, i), stop: { maxTokens: 20 } }));
    const expected = await Promise.all([...REQUESTS, ...late].map((request) => rig.generate(request)));
    const calls = REQUESTS.map((request) => rig.call(request));
    const endless = rig.call({ stop: { maxTokens: 5000 } });
    await underWay([...calls, endless]);
    await rig.processes.get('expert-1')?.end('SIGKILL');
    await eventually(async () => (await rig.metric('guildhall_experts_lost_total')) > 0, 'the experts to be lost');
    calls.push(...late.map((request) => rig.call(request)));
    await eventually(async () => (await rig.metric('guildhall_fallback_rows_total')) > 0, 'the router to compute');
    endless.stream.cancel();
    const ended = ({ result }: Call): boolean => result.finished !== null || result.error !== null;
    await eventually(() => calls.every(ended), 'every stream to end');
    assert.deepEqual(
      calls.map(({ result }) => bitsOf(result)),
      expected.map(bitsOf),
    );
    await rig.idle();
  });
});

test('without Redis everything goes on as it was, and the router is back in the list when Redis is', async () => {
  await RouterRig.run({}, async (rig) => {
    await unchangedBy(rig, () => rig.redis.kill());
    await unchangedBy(rig, () => undefined);
    await rig.redis.restart();
    await unchangedBy(rig, () => undefined);
    assert.equal((await rig.info()).ready, true);
  });
});

test('workers of another numerics class are left alone', async () => {
  await RouterRig.run({ workers: 1 }, async (rig) => {
    const stranger = rig.addWorker('expert-bf16', ['--weights', 'bf16']);
    await stranger.listening;
    await unchangedBy(rig, () => undefined);
    const answer = await rig.generate();
    assert.deepEqual([...(answer.finished?.expertRows.keys() ?? [])], ['expert-1']);
  });
});
