import { type Clock, isGuildhallError } from '@guildhall/common';
import type { BodyOptions } from '../client/api.ts';
import type { Answered, Send } from '../client/http-client.ts';
import type { LoadPoint } from '../points.ts';
import { PointStatistics } from '../statistics/point-statistics.ts';
import type { RequestRecord } from '../statistics/request-record.ts';
import type { Slo } from '../statistics/slo.ts';
import type { Conversation, Message, Turn, Workload } from '../workload/workload.ts';
import type { ArrivalShape } from './arrivals.ts';
import { runClosedLoop } from './closed-loop.ts';
import { runOpenLoop } from './open-loop.ts';

/** What one point of a run does. */
export interface PointPlan {
  point: LoadPoint;
  workload: Workload;
  /** Makes the texts of this point differ from those of others. */
  salt: string;
  seed: number;
  arrivals: { shape: ArrivalShape; burstiness: number };
  /** Requests at most, and time in which they begin; null for no bound. */
  limits: { requests: number | null; durationMs: number | null };
  /** Requests under way at most; later ones wait, and their wait counts. */
  maxInFlight: number;
  slo: Slo | null;
  body: Omit<BodyOptions, 'outputTokens'>;
}

/** One point while it runs: admits requests up to its limits and follows conversations through their turns. */
export class PointRun {
  readonly plan: PointPlan;
  readonly clock: Clock;
  readonly startMs: number;
  readonly statistics: PointStatistics;
  /** Aborted to stop at once. */
  readonly signal: AbortSignal;
  readonly #send: Send;
  #admitted = 0;

  constructor(plan: PointPlan, send: Send, clock: Clock, signal: AbortSignal) {
    this.plan = plan;
    this.clock = clock;
    this.signal = signal;
    this.startMs = clock.monotonicMs();
    this.statistics = new PointStatistics(plan.point, plan.slo, this.startMs);
    this.#send = send;
  }

  /** Runs to its limits, or until the signal; requests that run then are aborted. */
  async run(): Promise<void> {
    await (this.plan.point.kind === 'concurrency'
      ? runClosedLoop(this, this.plan.point)
      : runOpenLoop(this, this.plan.point));
  }

  /** Whether another request may begin at this time. */
  mayBegin(dueMs: number): boolean {
    const { requests, durationMs } = this.plan.limits;
    if (this.signal.aborted) return false;
    if (requests !== null && this.#admitted >= requests) return false;
    return durationMs === null || dueMs - this.startMs < durationMs;
  }

  /** Share of its limits that is used up. */
  get progress(): number {
    const { requests, durationMs } = this.plan.limits;
    const byCount = requests === null ? 0 : this.statistics.live.ended / requests;
    const byTime = durationMs === null ? 0 : (this.clock.monotonicMs() - this.startMs) / durationMs;
    // A whole share is only said at the end: it would be a line of its own where lines are not redrawn.
    return Math.min(0.999, Math.max(byCount, byTime));
  }

  /**
   * Sends the requests of a conversation one after the other, the first one due at `dueMs`. It ends early at a limit or a
   * failure. @returns whether all that were sent succeeded.
   */
  async follow(conversation: Conversation, dueMs: number): Promise<boolean> {
    const messages: Message[] = [];
    let due = dueMs;
    for (const [index, turn] of conversation.turns.entries()) {
      if (index > 0) {
        due = this.clock.monotonicMs() + turn.thinkMs;
        if (!(await this.waitUntil(due))) return true;
      }
      if (!this.mayBegin(due)) return true;
      messages.push(...turn.messages);
      const keepText = index < conversation.turns.length - 1;
      const { answer, failure } = await this.#request(messages, turn, due, keepText);
      if (failure !== null) return false;
      messages.push({ role: 'assistant', content: answer.content });
    }
    return true;
  }

  /** @returns false when the run was stopped meanwhile. */
  async waitUntil(dueMs: number): Promise<boolean> {
    // A timer may come a little early: it counts whole milliseconds.
    for (let left = dueMs - this.clock.monotonicMs(); left > 0; left = dueMs - this.clock.monotonicMs()) {
      try {
        await this.clock.sleep(Math.ceil(left), this.signal);
      } catch (error) {
        if (isGuildhallError(error) && error.code === 'cancelled') return false;
        throw error;
      }
    }
    return !this.signal.aborted;
  }

  async #request(messages: readonly Message[], turn: Turn, dueMs: number, keepText: boolean): Promise<Answered> {
    this.#admitted++;
    this.statistics.started(this.clock.monotonicMs());
    const body = { ...this.plan.body, outputTokens: turn.outputTokens };
    const onText = (atMs: number): void => this.statistics.text(atMs);
    const answered = await this.#send({ messages, body, keepText, onText }, this.signal);
    this.statistics.ended(recordOf(answered, dueMs, turn.plannedTokens));
    return answered;
  }
}

function recordOf({ sentMs, endMs, answer, failure }: Answered, dueMs: number, planned: number | null): RequestRecord {
  const { firstTokenMs, lastTokenMs, usage, outputTokens, chunks, gapsMs } = answer;
  return {
    dueMs,
    sentMs,
    firstTokenMs,
    lastTokenMs,
    endMs,
    promptTokens: usage?.prompt ?? planned ?? 0,
    cachedTokens: usage?.cached ?? 0,
    outputTokens,
    counted: usage !== null,
    chunks,
    gapsMs,
    failure,
  };
}
