import type { Shrinks, Workloads, WriteOutcome } from '../k8s/types.ts';
import type { Plan, Step } from './plan.ts';

/** What came of a plan. */
export interface CarriedOut {
  steps: number;
  failed: { step: Step; outcome: WriteOutcome }[];
}

interface Writers {
  workloads: Pick<Workloads, 'scale'>;
  shrinks: Pick<Shrinks, 'shrink' | 'abort'>;
}

/**
 * Carries a plan out. A write that fails does not keep the others back: growth only takes GPUs that are free before the plan, so
 * that whatever part of a plan is carried out stays within the budget, and one Deployment that refuses writes blocks no other.
 * The next evaluation plans anew from what is.
 */
export async function carryOut(
  { steps }: Plan,
  writers: Writers,
  onStep: (step: Step, outcome: WriteOutcome) => void,
): Promise<CarriedOut> {
  const failed: CarriedOut['failed'] = [];
  for (const step of steps) {
    const outcome = await write(step, writers);
    onStep(step, outcome);
    if (outcome !== 'done') failed.push({ step, outcome });
  }
  return { steps: steps.length - failed.length, failed };
}

function write(step: Step, { workloads, shrinks }: Writers): Promise<WriteOutcome> {
  if (step.kind === 'shrink') return shrinks.shrink(step.deployment, step.pods);
  if (step.kind === 'abort') return shrinks.abort(step.deployment);
  return workloads.scale(step.deployment, step.from, step.to);
}
