import assert from 'node:assert/strict';
import { test } from 'node:test';
import { experts } from '@guildhall/proto';
import { delayed, garbage, lateReplies, wrongShapes } from './misbehaviour.ts';
import type { Misbehaviour } from './worker-front.ts';

const { ReplyStatus } = experts;

const REPLY = experts.ForwardReply.fromPartial({
  step: 3,
  layer: 1,
  attempt: 2,
  status: ReplyStatus.REPLY_STATUS_OK,
  numRows: 4,
  rows: Buffer.alloc(32, 7),
});
const FRAME = Buffer.from(experts.ServerFrame.encode({ frame: { $case: 'reply', value: REPLY } }).finish());

function frames(how: Misbehaviour, calls: number): { frame: Buffer; afterMs: number }[][] {
  return Array.from({ length: calls }, () => how(REPLY, FRAME));
}

function replyIn(frame: Buffer | undefined): experts.ForwardReply {
  const decoded = experts.ServerFrame.decode(frame ?? Buffer.alloc(0)).frame;
  assert.ok(decoded?.$case === 'reply');
  return decoded.value;
}

test('a delayed reply is the same, later', () => {
  assert.deepEqual(delayed(200)(REPLY, FRAME), [{ frame: FRAME, afterMs: 200 }]);
});

test('one reply in so many is garbage, of the same length', () => {
  const got = frames(garbage(3), 6).map((given) => given[0]?.frame ?? Buffer.alloc(0));
  assert.deepEqual(
    got.map((frame) => frame.equals(FRAME)),
    [true, true, false, true, true, false],
  );
  assert.ok(got.every((frame) => frame.length === FRAME.length));
});

test('wrong shapes are replies whose rows are not those that were asked for', () => {
  const replies = frames(wrongShapes(1), 5).map((given) => replyIn(given[0]?.frame));
  assert.deepEqual(
    replies.map(({ numRows, rows }) => [numRows, rows.length]),
    [
      [3, 24],
      [5, 40],
      [4, 16],
      [8, 32],
      [0, 0],
    ],
  );
});

test('a late reply keeps its attempt and has other numbers; the refusal before it asks for another attempt', () => {
  const [first, second] = frames(lateReplies(2, 30), 2);
  assert.deepEqual(first?.[0], { frame: FRAME, afterMs: 0 });
  const again = replyIn(first?.[1]?.frame);
  assert.deepEqual([again.attempt, again.numRows], [2, 4]);
  assert.notDeepEqual(again.rows, REPLY.rows);
  assert.equal(replyIn(second?.[0]?.frame).status, ReplyStatus.REPLY_STATUS_BUSY);
  assert.equal(second?.[1]?.afterMs, 30);
  assert.equal(replyIn(second[1].frame).status, ReplyStatus.REPLY_STATUS_OK);
});
