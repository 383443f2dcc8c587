import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import { fail } from '@guildhall/common';
import type { router } from '@guildhall/proto';
import fc from 'fast-check';
import { sampleOf } from '../testing/sequences.ts';
import { EventStream, type EventStreamOptions, MAX_UNSENT } from './event-stream.ts';

/** The transport under a test's control: takes `room` messages, then says that it is full. */
class Transport extends EventEmitter {
  readonly sent: router.GenerateEvent[] = [];
  room = Infinity;
  ended = 0;
  errors: unknown[] = [];
  cancelled = false;

  constructor() {
    super();
    this.on('error', (err) => this.errors.push(err));
  }

  write(message: router.GenerateEvent): boolean {
    this.sent.push(message);
    this.room -= 1;
    return this.room > 0;
  }

  end(): this {
    this.ended += 1;
    return this;
  }

  drain(room: number): void {
    this.room = room;
    this.emit('drain');
  }
}

function streamOf(transport: Transport, onDrain: () => void = () => undefined): EventStream {
  const call = transport as unknown as EventStreamOptions['call'];
  return new EventStream({ call, routerId: 'router-1', numericsId: 'class', address: () => '127.0.0.1:1', onDrain });
}

const FINISH = {
  reason: { kind: 'length', stopString: null, stopTokenId: null } as const,
  promptTokens: 1,
  completionTokens: 2,
  cachedTokens: 0,
  decodeCachedTokens: 0,
  queueMs: 1,
  prefillMs: 1,
  decodeMs: 1,
  expertMs: 2.5,
  expertRows: new Map([['expert-1', 4]]),
};

test('events go out at once while the transport takes them, and the stream ends', () => {
  const transport = new Transport();
  const stream = streamOf(transport);
  stream.started(3, 0);
  stream.token({ index: 0, sample: sampleOf(5) });
  stream.finished(FINISH);
  assert.deepEqual(
    transport.sent.map(({ event }) => event?.$case),
    ['started', 'token', 'finished'],
  );
  assert.equal(transport.ended, 1);
});

test('what a full transport does not take is kept, and too much of it is congestion', () => {
  let drained = 0;
  const transport = new Transport();
  const stream = streamOf(transport, () => (drained += 1));
  transport.room = 1;
  for (let index = 0; index < MAX_UNSENT; index++) stream.token({ index, sample: sampleOf(index) });
  assert.equal(stream.congested(), false);
  stream.token({ index: MAX_UNSENT, sample: sampleOf(1) });
  assert.equal(stream.congested(), true);
  transport.drain(1);
  assert.equal(stream.congested(), false);
  assert.equal(drained, 1);
});

test('an error comes after everything that was said before it', () => {
  const transport = new Transport();
  const stream = streamOf(transport);
  transport.room = 1;
  for (let index = 0; index < 5; index++) stream.token({ index, sample: sampleOf(index) });
  stream.failed(fail('expert_unavailable', 'gone'));
  assert.equal(transport.errors.length, 0);
  transport.drain(Infinity);
  assert.equal(transport.sent.length, 5);
  assert.deepEqual(
    transport.errors.map((err) => (err as { code: number }).code),
    [14],
  );
});

test('nothing is written to a call that was cancelled', () => {
  const transport = new Transport();
  const stream = streamOf(transport);
  transport.cancelled = true;
  stream.token({ index: 0, sample: sampleOf(1) });
  stream.finished(FINISH);
  assert.equal(transport.sent.length + transport.ended, 0);
});

test('property: every event arrives once and in order, however the transport stalls', () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.constant('token' as const), fc.integer({ min: 1, max: 4 })), { maxLength: 80 }),
      (steps) => {
        const transport = new Transport();
        transport.room = 2;
        const stream = streamOf(transport);
        let count = 0;
        for (const step of steps) {
          if (step === 'token') stream.token({ index: count++, sample: sampleOf(1) });
          else transport.drain(step);
        }
        stream.finished(FINISH);
        for (let i = 0; i <= count + 1; i++) transport.drain(1);
        assert.deepEqual(
          transport.sent.slice(0, -1).map(({ event }) => (event?.$case === 'token' ? event.value.index : -1)),
          Array.from({ length: count }, (_, i) => i),
        );
        assert.equal(transport.sent.at(-1)?.event?.$case, 'finished');
        assert.equal(transport.ended, 1);
        assert.equal(stream.numUnsent, 0);
      },
    ),
  );
});
