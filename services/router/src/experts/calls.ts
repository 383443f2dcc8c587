import type { Clock, Logger, Timer } from '@guildhall/common';
import type { Lane } from '@guildhall/native';
import { experts } from '@guildhall/proto';
import { messageKey, type ReplyOutcome } from './lane-stream.ts';
import type { ExpertPeer } from './peer.ts';
import type { Part } from './plan.ts';
import type { DispatchPolicy } from './policy/index.ts';
import type { CallTrace } from '../telemetry/call-trace.ts';

/** A message on its way. */
export interface Call {
  readonly peer: ExpertPeer;
  readonly lane: Lane;
  readonly key: string;
  readonly part: Part;
  /** Null unless its step is sampled. */
  readonly trace: CallTrace | null;
  readonly sentAtMs: number;
  /** When a second call may be made. */
  readonly hedgeAtMs: number;
  /** When it is late. */
  readonly deadlineAtMs: number;
  isLate: boolean;
  /** Nothing else was on its way to the worker while this was. */
  isAlone: boolean;
  /** Answered, lost or forgotten. */
  isOver: boolean;
}

export interface CallsOptions {
  policy: DispatchPolicy;
  clock: Clock;
  logger: Logger;
  /** Time without a reply after which a worker counts as lost. */
  replyLimitMs: Readonly<Record<Lane, number>>;
}

/** Checks of the limit for each time that it lasts. */
const CHECKS = 4;

/**
 * Every call of a router that has had no answer yet, whether anybody still waits for it or not. What comes of them is
 * measured here, and a worker that has owed an answer for the reply limit has its stream opened again.
 */
export class Calls {
  readonly #o: CallsOptions;
  readonly #open = new Set<Call>();
  /** Those that nobody waits for: another answer was faster. */
  readonly #losers = new Set<Call>();
  readonly #lastTo = new Map<string, Call>();
  #timer: Timer | null = null;

  constructor(options: CallsOptions) {
    this.#o = options;
  }

  get numOpen(): number {
    return this.#open.size;
  }

  /** Sends a frame; `sink` gets what comes of it unless it is forgotten. Null, and nothing sent, to a peer that is down. */
  send(
    to: { peer: ExpertPeer; lane: Lane; header: Parameters<typeof messageKey>[0]; part: Part; trace: CallTrace | null },
    frame: Buffer,
    sink: (call: Call, outcome: ReplyOutcome) => void,
  ): Call | null {
    const { policy, clock } = this.#o;
    const { peer, lane, part, trace } = to;
    const key = messageKey(to.header);
    const rows = part.slots.length;
    const now = clock.monotonicMs();
    const call: Call = {
      peer,
      lane,
      key,
      part,
      trace,
      sentAtMs: now,
      hedgeAtMs: peer.isFallback ? Infinity : now + policy.latency.hedgeAfterMs(peer.id, lane, rows),
      deadlineAtMs: peer.isFallback ? Infinity : now + policy.latency.deadlineMs(peer.id, lane, rows),
      isLate: false,
      isAlone: false,
      isOver: false,
    };
    if (!peer.send(lane, key, frame, (outcome) => this.#onOutcome(call, outcome, sink))) {
      trace?.dropped();
      return null;
    }
    call.isAlone = policy.sent(peer.id, lane, rows);
    const before = this.#lastTo.get(peer.id);
    if (before !== undefined && !before.isOver) before.isAlone = false;
    this.#lastTo.set(peer.id, call);
    this.#open.add(call);
    this.#watch();
    return call;
  }

  /** A call is past its deadline; it may still be answered. */
  late(call: Call): void {
    call.isLate = true;
    this.#o.policy.late(call.peer.id);
  }

  /** The rows of a call came from elsewhere. It may still be answered, and is late when it is not. */
  lose(call: Call): void {
    if (!call.isOver && !call.isLate) this.#losers.add(call);
  }

  /** Looks after the calls that nobody waits for; before a plan is made. */
  sweep(): void {
    if (this.#losers.size === 0) return;
    const now = this.#o.clock.monotonicMs();
    for (const call of this.#losers) {
      if (now < call.deadlineAtMs) continue;
      this.#losers.delete(call);
      this.late(call);
    }
  }

  /** Nobody wants to know what comes of a call. */
  forget(call: Call): void {
    if (call.isOver) return;
    this.#end(call);
    call.trace?.dropped();
    call.peer.forget(call.lane, call.key);
  }

  close(): void {
    this.#timer?.cancel();
    this.#timer = null;
    for (const call of this.#open) call.trace?.dropped();
    this.#open.clear();
    this.#losers.clear();
  }

  #onOutcome(call: Call, outcome: ReplyOutcome, sink: (call: Call, outcome: ReplyOutcome) => void): void {
    const { policy, clock } = this.#o;
    this.#end(call);
    const { peer, lane, part, trace } = call;
    if (outcome.kind === 'lost') trace?.lost();
    else trace?.answered(outcome.header, outcome.frame.length);
    if (outcome.kind === 'lost') policy.record(peer.id, 'lost');
    else if (outcome.header.status === experts.ReplyStatus.REPLY_STATUS_OK)
      policy.latency.observe(peer.id, lane, part.slots.length, clock.monotonicMs() - call.sentAtMs);
    sink(call, outcome);
  }

  #end(call: Call): void {
    call.isOver = true;
    this.#open.delete(call);
    this.#losers.delete(call);
    this.#o.policy.ended(call.peer.id, call.lane, call.part.slots.length, call.isLate);
  }

  #watch(): void {
    const { clock, replyLimitMs } = this.#o;
    this.#timer ??= clock.setTimer(Math.min(replyLimitMs.decode, replyLimitMs.prefill) / CHECKS, () => {
      this.#timer = null;
      this.#expire();
      if (this.#open.size > 0) this.#watch();
    });
  }

  #expire(): void {
    const { clock, replyLimitMs, logger } = this.#o;
    const now = clock.monotonicMs();
    const overdue = Array.from(this.#open).filter((call) => now - call.sentAtMs >= replyLimitMs[call.lane]);
    for (const call of overdue) {
      // A reset of the stream may have ended this one together with another.
      if (call.isOver || call.peer.isFallback) continue;
      const limitMs = replyLimitMs[call.lane];
      logger.warn({ worker: call.peer.id, lane: call.lane, limitMs }, 'no reply from the worker');
      call.peer.reset(call.lane, `no reply within ${limitMs} ms`);
    }
  }
}
