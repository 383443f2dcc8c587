import type { Workload } from '../../k8s/types.ts';
import type { Block } from '../view.ts';

/** Writes within this time of each other are one quarrel. */
const QUARREL_MS = 3_600_000;
const LONGEST_HOLD_MS = 86_400_000;

interface Hold {
  writer: string | null;
  replicas: number;
  times: number;
  atMs: number;
  untilMs: number;
}

/**
 * Leaves a Deployment alone for a while after somebody else has set its replicas: a person who does so has a reason, and a tool
 * that does so over and over (GitOps, a second autoscaler) would never stop.
 */
export class ForeignWriters {
  readonly #holds = new Map<string, Hold>();

  /** Why nothing may be written now; null when something may. */
  check({ deployment, foreignWriter, replicas }: Workload, atMs: number, holdMs: number): Block | null {
    const known = this.#holds.get(deployment);
    const fresh = foreignWriter !== null && (known?.writer !== foreignWriter || known.replicas !== replicas);
    const quarrels = known !== undefined && atMs - known.atMs < QUARREL_MS;
    const times = fresh ? (quarrels ? known.times + 1 : 1) : (known?.times ?? 0);
    const hold: Hold = {
      writer: foreignWriter,
      replicas,
      times,
      atMs: fresh ? atMs : (known?.atMs ?? Number.NEGATIVE_INFINITY),
      untilMs: fresh ? atMs + Math.min(LONGEST_HOLD_MS, holdMs * 2 ** (times - 1)) : (known?.untilMs ?? 0),
    };
    this.#holds.set(deployment, hold);
    if (foreignWriter === null || atMs >= hold.untilMs) return null;
    const leftS = Math.ceil((hold.untilMs - atMs) / 1000);
    const message = `${foreignWriter} has set ${replicas} replicas; nothing is changed for ${leftS} s`;
    return { reason: 'foreign_writer', message };
  }
}
