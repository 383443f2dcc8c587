import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeTrace, promptOf, type TraceShape, traceTokens } from './trace.ts';

const SHAPE: TraceShape = {
  seed: 1,
  users: 200,
  systems: 3,
  systemTokens: 100,
  turns: 5,
  meanTurnTokens: 40,
  meanAnswerTokens: 20,
  forks: 0.3,
  arrivalsPerSecond: 4,
  meanThinkMs: 500,
  vocab: 1000,
};

test('a trace depends on its seed only', () => {
  assert.deepEqual(makeTrace(SHAPE), makeTrace(SHAPE));
  assert.notDeepEqual(makeTrace(SHAPE), makeTrace({ ...SHAPE, seed: 2 }));
});

test('a turn goes on from an earlier turn of its user', () => {
  const trace = makeTrace(SHAPE);
  for (const [index, { user, after, tokens, answer, delayMs }] of trace.entries()) {
    if (after !== null) assert.ok(after < index && trace[after]?.user === user);
    assert.ok(tokens.length >= (after === null ? 120 : 20) && tokens.length <= (after === null ? 160 : 60));
    assert.ok(tokens.every((id) => id >= 0 && id < 1000));
    assert.ok(answer.length >= 10 && answer.length <= 30 && delayMs >= 0);
  }
  const users = new Set(trace.filter(({ after }) => after === null).map(({ user }) => user));
  assert.equal(users.size, 200);
});

test('system prompts are shared, the first one most', () => {
  const begun = makeTrace(SHAPE).filter(({ after }) => after === null);
  const counts = new Map<string, number>();
  for (const { tokens } of begun) {
    const system = tokens.slice(0, 100).join();
    counts.set(system, (counts.get(system) ?? 0) + 1);
  }
  assert.equal(counts.size, 3);
  const shares = [...counts.values()].sort((a, b) => b - a).map((count) => count / begun.length);
  assert.ok((shares[0] ?? 0) > 0.45 && (shares[0] ?? 0) < 0.7, shares.join(', '));
});

test('as many users as asked for fork, and forks share their history', () => {
  const trace = makeTrace(SHAPE);
  const children = new Map<string, number>();
  for (const { user, after } of trace) {
    const key = `${user}/${after}`;
    children.set(key, (children.get(key) ?? 0) + 1);
  }
  const forks = [...children.values()].filter((count) => count === 2).length;
  assert.ok(forks > 30 && forks < 70, `${forks} of 200`);
  assert.equal(Math.max(...children.values()), 2);
  const plain = makeTrace({ ...SHAPE, forks: 0 });
  assert.equal(new Set(plain.map(({ user, after }) => `${user}/${after}`)).size, plain.length);
});

test('users arrive at random times at the rate asked for', () => {
  const starts = makeTrace(SHAPE).filter(({ after }) => after === null);
  const times = starts.map(({ delayMs }) => delayMs);
  assert.deepEqual(
    times,
    [...times].sort((a, b) => a - b),
  );
  const seconds = (times.at(-1) ?? 0) / 1000;
  assert.ok(seconds > 40 && seconds < 60, `${seconds} s for 200 users at 4 a second`);
});

test('the tokens of a trace are those of histories and questions', () => {
  const trace = [
    { user: 0, after: null, tokens: [1, 2, 3], answer: [4, 4, 4, 4], delayMs: 0 },
    { user: 0, after: 0, tokens: [5], answer: [6, 6], delayMs: 0 },
  ];
  assert.deepEqual(promptOf(trace, 1), [1, 2, 3, 4, 4, 4, 4, 5]);
  assert.deepEqual(traceTokens(trace), { prompts: 3 + 8, answers: 6 });
});
