import type { WorkloadPod } from '../../k8s/types.ts';
import type { WorkerSignal } from '../signals.ts';
import type { GroupLoad } from '../view.ts';
import { Series } from './series.ts';
import { Throughput } from './throughput.ts';

/** The signals are means of ten seconds already. */
export const HALF_LIFE_MS = 10_000;
/** Slower, since it is a property of the machines and of the model. */
const FIXED_HALF_LIFE_MS = 60_000;

/** What one evaluation sees of a group. */
export interface GroupFacts {
  atMs: number;
  /** Pods that are ready by Kubernetes. */
  pods: readonly WorkloadPod[];
  workers: ReadonlyMap<string, WorkerSignal>;
  warmUpMs: number;
  windowMs: number;
  /** The counters of routers and gateways say that there is no load. */
  noLoad: boolean;
}

interface Sample {
  rows: number;
  busy: number;
  shared: number;
}

/** Follows the load of a group of workers. */
export class GroupTracker {
  readonly #shared = new Series(HALF_LIFE_MS);
  readonly #rows = new Series(HALF_LIFE_MS);
  readonly #fixed = new Series(FIXED_HALF_LIFE_MS);
  readonly #throughput = new Throughput();
  #busiest = 0;

  /** Takes one evaluation; returns the ready pods that should tell and do not. */
  observe({ atMs, pods, workers, warmUpMs, windowMs, noLoad }: GroupFacts): string[] {
    const missing: string[] = [];
    const samples: Sample[] = [];
    for (const pod of pods) {
      const warm = pod.readyMs !== null && atMs - pod.readyMs >= warmUpMs;
      const sample = sampleOf(workers.get(pod.name));
      if (sample === null) {
        if (warm) missing.push(pod.name);
        continue;
      }
      samples.push(warm ? sample : this.#asIfWarm(sample));
      if (!warm) continue;
      this.#throughput.observe(sample.rows, sample.shared);
      if (sample.busy > 0) this.#fixed.add(atMs, sample.busy - sample.shared, windowMs);
    }
    if (missing.length > 0 && noLoad) {
      this.#busiest = 0;
      this.#add(atMs, 0, 0, windowMs);
      return [];
    }
    if (samples.length === 0) return missing;
    this.#busiest = Math.max(...samples.map(({ busy }) => busy));
    // Those that do not tell are taken to be like the others.
    const scale = pods.length / samples.length;
    const sum = (of: (sample: Sample) => number): number => samples.reduce((total, one) => total + of(one), 0) * scale;
    this.#add(
      atMs,
      sum((one) => one.shared),
      sum((one) => one.rows),
      windowMs,
    );
    return missing;
  }

  /** A replica that has just started is slow for a while; its rows are counted as what they will take. */
  #asIfWarm(sample: Sample): Sample {
    const { rowsPerReplica } = this.#throughput;
    return rowsPerReplica === null
      ? sample
      : { ...sample, shared: Math.min(sample.shared, sample.rows / rowsPerReplica) };
  }

  #add(atMs: number, shared: number, rows: number, windowMs: number): void {
    this.#shared.add(atMs, shared, windowMs);
    this.#rows.add(atMs, rows, windowMs);
  }

  /** Null before anything was measured. */
  get load(): GroupLoad | null {
    const shared = this.#shared.level;
    const rows = this.#rows.level;
    if (shared === null || rows === null) return null;
    const { rowsPerReplica } = this.#throughput;
    return { shared, rows, fixed: this.#fixed.level?.now ?? 0, busiest: this.#busiest, rowsPerReplica };
  }

  get watchedMs(): number {
    return this.#shared.spanMs;
  }
}

/**
 * What a worker did. Its time goes into rows, which more replicas would share, and into messages, of which each replica gets as
 * many as there are steps; the worker's own fit of time over rows tells them apart.
 */
function sampleOf(worker: WorkerSignal | undefined): Sample | null {
  if (worker === undefined || worker.busy === null || worker.rowsPerSecond === null) return null;
  const { busy, rowsPerSecond: rows, usPerRow } = worker;
  return { rows, busy, shared: usPerRow > 0 ? Math.min(busy, (rows * usPerRow) / 1e6) : busy };
}
