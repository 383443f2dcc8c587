import type { Plan } from './plan.ts';
import type { AutoscalerPolicy } from './policy.ts';
import type { View } from './view.ts';

/** Under which name the status is kept: `keys.status(AUTOSCALER_STATUS)`. */
export const AUTOSCALER_STATUS = 'autoscaler';

/** What the autoscaler of the leading controller says of itself; JSON under the key `status:autoscaler`. */
export interface AutoscalerStatus {
  controller: string;
  mode: AutoscalerPolicy['mode'];
  /** Why nothing can be decided; null when it can. */
  blind: string | null;
  /** What was seen and decided last; null before. `decide(view, policy)` gives `plan` again. */
  view: View | null;
  plan: Plan | null;
  policy: AutoscalerPolicy;
  /** What came of the plan's steps: as many as were carried out, and how the others failed. Null where nothing is to be. */
  carriedOut: { steps: number; failed: readonly string[] } | null;
  /** Milliseconds since the Unix epoch. */
  updatedMs: number;
}

/** Reads a stored status; null for one of another release that cannot be read. */
export function parseAutoscalerStatus(text: string): AutoscalerStatus | null {
  try {
    const status = JSON.parse(text) as AutoscalerStatus;
    return typeof status.mode === 'string' && typeof status.updatedMs === 'number' ? status : null;
  } catch {
    return null;
  }
}
