import { Random } from '../../simulate/kernel/random.ts';
import type { LoadPoint } from '../points.ts';
import type { Conversation } from '../workload/workload.ts';
import { arrivalTimes } from './arrivals.ts';
import type { PointRun } from './point-run.ts';
import { Slots } from './slots.ts';

/**
 * Begins conversations when they are due, whatever became of those before: a server that stalls finds everything that was due
 * meanwhile. Times count from when a request was due, not from when it was sent (no coordinated omission).
 */
export async function runOpenLoop(run: PointRun, point: Exclude<LoadPoint, { kind: 'concurrency' }>): Promise<void> {
  const { plan, startMs, signal } = run;
  const due = dueTimes(run, point);
  const slots = new Slots(plan.maxInFlight, signal);
  const under = new Set<Promise<unknown>>();
  for await (const conversation of plan.workload.conversations(plan.salt)) {
    const dueMs = startMs + due(conversation);
    // What began may have used up the limits while this one waited.
    if (!run.mayBegin(dueMs) || !(await run.waitUntil(dueMs)) || !(await slots.take()) || !run.mayBegin(dueMs)) break;
    const work = run.follow(conversation, dueMs).finally(() => {
      slots.give();
      under.delete(work);
    });
    under.add(work);
  }
  await Promise.all(under);
}

/** When conversations are due, in milliseconds from the beginning. */
function dueTimes(
  { plan }: PointRun,
  point: Exclude<LoadPoint, { kind: 'concurrency' }>,
): (next: Conversation) => number {
  if (point.kind === 'replay') {
    let first: number | null = null;
    let last = 0;
    return ({ atMs }) => {
      first ??= atMs ?? 0;
      // A line without a time, or out of order, comes with the one before it.
      last = Math.max(last, ((atMs ?? 0) - first) / point.speed);
      return last;
    };
  }
  const { shape, burstiness } = plan.arrivals;
  const times = arrivalTimes(new Random(plan.seed, 'arrivals'), shape, point.perSecond, burstiness);
  return () => times.next().value;
}
