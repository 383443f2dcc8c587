import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeRequests } from './requests.ts';
import { countWrong, longestGap, type StreamedToken, type StreamResult } from './stream.ts';

function tokens(...texts: string[]): StreamedToken[] {
  return texts.map((token, index) => ({ token, logprob: -1 - index, atMs: 10 * index }));
}

function result(of: StreamedToken[]): StreamResult {
  return { startedMs: 0, endedMs: 100, tokens: of, error: null };
}

test('a token is wrong when its text or its log-probability differs, or when there should be none', () => {
  const right = tokens('a', 'b', 'c');
  assert.equal(countWrong(result(tokens('a', 'b', 'c')), right), 0);
  assert.equal(countWrong(result(tokens('a', 'x', 'c')), right), 1);
  assert.equal(countWrong(result(tokens('a', 'b', 'c', 'd')), right), 1);
  const nearly = right.map((token) => ({ ...token, logprob: token.logprob * (1 + Number.EPSILON) }));
  assert.equal(countWrong(result(nearly), right), 3, 'one bit is enough');
  assert.equal(countWrong(result(tokens('a')), right), 0, 'what a broken stream lacks is not wrong');
});

test('the longest pause is that between two tokens of one stream of which the later came within the window', () => {
  const at = (...times: number[]): StreamResult => result(times.map((atMs) => ({ token: 't', logprob: 0, atMs })));
  const streams = [at(0, 500, 510, 700), at(505, 512)];
  assert.equal(longestGap(streams, 0), 500);
  assert.equal(longestGap(streams, 500), 190, 'the pause that ended at 500 came before');
  assert.equal(longestGap(streams, 0, 510), 500);
  assert.equal(longestGap(streams, 699), 190, 'a pause that began before the window counts whole');
  assert.equal(longestGap([], 0), 0);
});

test('requests are a function of the seed, and all differ', () => {
  assert.deepEqual(makeRequests(12, 7), makeRequests(12, 7));
  assert.notDeepEqual(makeRequests(12, 7), makeRequests(12, 8));
  const requests = makeRequests(40, 1);
  assert.equal(new Set(requests.map(({ prompt }) => prompt)).size, 40);
  assert.ok(requests.every(({ temperature }) => temperature > 0));
  assert.ok(requests.some(({ prompt }) => prompt.length > 1000));
});
