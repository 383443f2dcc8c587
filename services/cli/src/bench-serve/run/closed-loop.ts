import type { LoadPoint } from '../points.ts';
import type { Conversation } from '../workload/workload.ts';
import type { PointRun } from './point-run.ts';

/** A client whose request failed waits so long: one that refuses at once is not asked as fast as it can refuse. */
const PAUSE_MS = 250;

/** A fixed number of clients; each sends its next request when it has the answer to the one before. */
export async function runClosedLoop(
  run: PointRun,
  { clients }: Extract<LoadPoint, { kind: 'concurrency' }>,
): Promise<void> {
  const { plan, clock } = run;
  const conversations = iterate(plan.workload.conversations(plan.salt));
  const client = async (): Promise<void> => {
    while (run.mayBegin(clock.monotonicMs())) {
      const next = await conversations.next();
      if (next.done === true || !run.mayBegin(clock.monotonicMs())) return;
      const fine = await run.follow(next.value, clock.monotonicMs());
      if (!fine && !(await run.waitUntil(clock.monotonicMs() + PAUSE_MS))) return;
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  await conversations.return?.(undefined);
}

function iterate(
  source: AsyncIterable<Conversation> | Iterable<Conversation>,
): AsyncIterator<Conversation> | Iterator<Conversation, unknown> {
  return Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
}
