import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { Random } from '../../simulate/kernel/random.ts';
import { arrivalTimes, gapMs } from '../run/arrivals.ts';
import { drawLength, parseLengths, SHAREGPT } from './lengths.ts';
import { SyntheticWorkload, type SyntheticOptions } from './synthetic.ts';
import { ASSUMED_RATE, rateFrom, textOf } from './text.ts';
import { TraceWorkload } from './trace.ts';
import type { Conversation } from './workload.ts';

const dir = mkdtempSync(join(tmpdir(), 'guildhall-trace-'));
after(() => rmSync(dir, { recursive: true }));

const OPTIONS: SyntheticOptions = {
  seed: 7,
  prompt: parseLengths(SHAREGPT.prompt, '--prompt'),
  output: parseLengths(SHAREGPT.output, '--output'),
  sharedPrefixTokens: 0,
  prefixGroups: 1,
  turns: parseLengths('1', '--turns'),
  thinkMs: 0,
  rate: ASSUMED_RATE,
};

function take(count: number, options: Partial<SyntheticOptions>, salt = 's'): Conversation[] {
  const made: Conversation[] = [];
  for (const conversation of new SyntheticWorkload({ ...OPTIONS, ...options }).conversations(salt)) {
    if (made.push(conversation) === count) break;
  }
  return made;
}

test('arrivals have the rate and the spread that they are asked for, and are a function of the seed', () => {
  const draw = (shape: 'poisson' | 'constant' | 'gamma', burstiness: number): { mean: number; cv: number } => {
    const random = new Random(1, 'gaps');
    const gaps = Array.from({ length: 40_000 }, () => gapMs(random, shape, 5, burstiness));
    const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
    const variance = gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length;
    return { mean, cv: Math.sqrt(variance) / mean };
  };
  for (const [shape, burstiness, cv] of [
    ['poisson', 1, 1],
    ['gamma', 1, 1],
    ['gamma', 4, 0.5],
    ['gamma', 0.25, 2],
    ['constant', 1, 0],
  ] as const) {
    const drawn = draw(shape, burstiness);
    assert.ok(Math.abs(drawn.mean / 200 - 1) < 0.04, `${shape} ${burstiness}: mean ${drawn.mean}`);
    assert.ok(Math.abs(drawn.cv - cv) < 0.06, `${shape} ${burstiness}: variation ${drawn.cv}`);
  }
  const times = (seed: number): number[] => {
    const arrivals = arrivalTimes(new Random(seed, 'a'), 'poisson', 3, 1);
    return Array.from({ length: 50 }, () => arrivals.next().value);
  };
  assert.deepEqual(times(1), times(1));
  assert.notDeepEqual(times(1), times(2));
  assert.ok(times(1).every((atMs, index, all) => index === 0 || atMs > (all[index - 1] as number)));
});

test('constant arrivals do not drift', () => {
  const arrivals = arrivalTimes(new Random(1, 'a'), 'constant', 3, 1);
  let last = -1;
  for (let index = 0; index <= 300_000; index++) last = arrivals.next().value;
  assert.equal(last, 100_000_000);
});

test('lengths are read, whole, within their bounds, and have their mean', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 2 ** 31 }),
      fc.integer({ min: 1, max: 500 }),
      fc.integer({ min: 0, max: 500 }),
      (seed, a, more) => {
        for (const spec of [`${a}`, `uniform:${a},${a + more}`, `lognormal:${a},1.5,${a},${a + more}`]) {
          const length = drawLength(new Random(seed, 'l'), parseLengths(spec, '--prompt'));
          assert.ok(Number.isInteger(length) && length >= a && length <= a + more, `${spec}: ${length}`);
        }
      },
    ),
  );
  const lengths = parseLengths('lognormal:100,0.5', '--prompt');
  const random = new Random(1, 'mean');
  let sum = 0;
  for (let index = 0; index < 20_000; index++) sum += drawLength(random, lengths);
  assert.ok(Math.abs(sum / 20_000 - 100) < 2);
  for (const bad of [
    '',
    'x',
    '0',
    '-1',
    '1.5',
    'fixed:',
    'uniform:5',
    'uniform:5,4',
    'lognormal:0,1',
    'lognormal:5,1,2',
    'zipf:3',
    'fixed:1,2',
    '1e9',
  ])
    assert.throws(() => parseLengths(bad, '--prompt'), { code: 'config_invalid', field: '--prompt' }, bad);
});

test('conversations are a function of the seed; another salt changes words, not lengths', () => {
  const changes = {
    turns: parseLengths('uniform:1,4', '--turns'),
    thinkMs: 500,
    sharedPrefixTokens: 30,
    prefixGroups: 3,
  };
  assert.deepEqual(take(20, changes), take(20, changes));
  const shape = (all: Conversation[]): unknown =>
    all.map(({ turns }) =>
      turns.map(({ outputTokens, plannedTokens, thinkMs }) => [outputTokens, plannedTokens, thinkMs]),
    );
  const [one, other] = [take(20, changes, 'a'), take(20, changes, 'b')];
  assert.deepEqual(shape(one), shape(other));
  const texts = (all: Conversation[]): string[] =>
    all.flatMap(({ turns }) => turns.map(({ messages }) => String(messages.at(-1)?.content)));
  assert.equal(texts(one).filter((text, index) => text === texts(other)[index] && text.length > 40).length, 0);
  assert.notDeepEqual(shape(take(20, changes)), shape(take(20, { ...changes, seed: 8 })));
  assert.ok(new Set(one.map(({ turns }) => turns.length)).size > 1);
  assert.ok(one.every(({ turns }) => turns[0]?.thinkMs === 0));
});

test('conversations of a group share a prefix, and nothing else', () => {
  const all = take(40, { sharedPrefixTokens: 50, prefixGroups: 3 });
  const prefixes = all.map(({ turns }) => turns[0]?.messages[0]);
  assert.ok(
    prefixes.every((message) => message?.role === 'system' && String(message.content).split(' ').length === 50),
  );
  assert.equal(new Set(prefixes.map((message) => message?.content)).size, 3);
});

test('texts are as long as the tokenizer makes them', () => {
  const rate = rateFrom({ words: 32, tokens: 58 }, { words: 288, tokens: 442 });
  assert.deepEqual(rate, { perWord: 1.5, overhead: 10, measured: true });
  assert.equal(textOf(1, 'x', 150, rate).split(' ').length, 100);
  const [conversation] = take(1, { prompt: parseLengths('160', '--prompt'), rate });
  assert.equal(
    String(conversation?.turns[0]?.messages[0]?.content).split(' ').length,
    100,
    'the template has the other 10',
  );
  assert.deepEqual(rateFrom({ words: 32, tokens: 5 }, { words: 288, tokens: 5 }), ASSUMED_RATE);
});

async function readAll(text: string, salt = 's'): Promise<Conversation[]> {
  const file = join(dir, 'trace.jsonl');
  writeFileSync(file, text);
  const trace = await TraceWorkload.open({ file, seed: 1, rate: ASSUMED_RATE, maxOutputTokens: null });
  const all: Conversation[] = [];
  for await (const conversation of trace.conversations(salt)) all.push(conversation);
  return all;
}

test('a Mooncake trace gives texts that share what its hash ids share', async () => {
  const lines = [
    { timestamp: 0, input_length: 1100, output_length: 5, hash_ids: [1, 2, 3] },
    { timestamp: 30, input_length: 1200, output_length: 6, hash_ids: [1, 2, 4] },
    { timestamp: 40, input_length: 600, output_length: 7, hash_ids: [9, 2] },
  ];
  const all = await readAll(lines.map((line) => JSON.stringify(line)).join('\n') + '\n\n');
  const words = all.map(({ turns }) => String(turns[0]?.messages[0]?.content).split(' '));
  assert.deepEqual(
    words.map(({ length }) => length),
    [1100, 1200, 600],
  );
  assert.deepEqual(
    all.map(({ atMs, turns }) => [atMs, turns[0]?.outputTokens]),
    [
      [0, 5],
      [30, 6],
      [40, 7],
    ],
  );
  assert.deepEqual(words[0]?.slice(0, 1024), words[1]?.slice(0, 1024));
  assert.notDeepEqual(words[0]?.slice(1024, 1100), words[1]?.slice(1024, 1100));
  assert.deepEqual(words[2]?.slice(512), words[0]?.slice(512, 600), 'the same block of other requests');
});

test('messages and prompts are taken as they are', async () => {
  const messages = [{ role: 'user', content: [{ type: 'text', text: 'Hi' }] }];
  const all = await readAll(
    `${JSON.stringify({ messages, max_tokens: 9 })}\n{"prompt":"Once","output_length":4}\n{"prompt":"x"}`,
  );
  assert.deepEqual(
    all.map(({ atMs, turns }) => [atMs, turns[0]?.messages, turns[0]?.outputTokens]),
    [
      [null, messages, 9],
      [null, [{ role: 'user', content: 'Once' }], 4],
      [null, [{ role: 'user', content: 'x' }], null],
    ],
  );
});

test('a bad line is named, and so is a file that is not there', async () => {
  await assert.rejects(readAll('{"prompt":"x"}\n{"input_length":-1}'), /line 2 .*input_length/);
  await assert.rejects(readAll('{"prompt":"x"}\n\n{x'), /line 3/);
  await assert.rejects(readAll('\n'), /no requests/);
  await assert.rejects(
    TraceWorkload.open({ file: join(dir, 'none'), seed: 1, rate: ASSUMED_RATE, maxOutputTokens: null }),
    {
      code: 'config_invalid',
      field: '--trace',
    },
  );
});
