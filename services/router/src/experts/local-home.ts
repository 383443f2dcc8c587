import { type Cluster, fail } from '@guildhall/common';
import type { ExpertShard, Lane } from '@guildhall/native';
import type { DispatchObserver, RowOwners } from './dispatch.ts';
import type { ExpertShape } from './holdings.ts';
import type { ExpertView } from './placement-view.ts';
import type { EngineViews, ExpertHome, ExpertSource, StepExperts } from './source.ts';
import type { WorkerLink } from './worker-link.ts';

export interface LocalHomeOptions {
  shard: ExpertShard;
  shape: ExpertShape;
  topK: number;
  /** Under which the rows are counted. */
  routerId: string;
  observer: Pick<DispatchObserver, 'rows'>;
}

/** Every expert in the router's own process: no placement, no workers, nothing that could get lost. */
export class LocalHome implements ExpertHome {
  readonly views: EngineViews;
  readonly source: ExpertSource;
  readonly holdings: readonly { layer: number; experts: number[] }[];

  constructor(options: LocalHomeOptions) {
    const { shard, shape } = options;
    this.views = constantViews(shape);
    this.source = { begin: (_view, _lane, owners) => new LocalStep(options, owners) };
    this.holdings = Array.from({ length: shape.numLayers }, (_, layer) => ({ layer, experts: [...shard.held(layer)] }));
  }

  follow(_cluster: Cluster): void {}

  joined(): void {}

  notCovered(): string | null {
    return null;
  }

  openStreams(_lane: Lane): number {
    return 0;
  }

  stop(): void {}

  close(): void {}
}

/** One forward pass with the experts of this process: rows are only counted. */
class LocalStep implements StepExperts {
  readonly direct: ExpertShard;
  readonly rowsOf: Map<string, number>[];
  readonly expertMsOf: Float64Array;
  readonly #o: LocalHomeOptions;
  readonly #owners: RowOwners;

  constructor(options: LocalHomeOptions, owners: RowOwners) {
    this.direct = options.shard;
    this.#o = options;
    this.#owners = owners;
    this.expertMsOf = new Float64Array(owners.numSequences);
    this.rowsOf = Array.from({ length: owners.numSequences }, () => new Map<string, number>());
  }

  dispatch(): never {
    throw fail('internal', 'rows for local experts are not dispatched');
  }

  /** Every row went through its experts in every layer. */
  close(): void {
    const { routerId, topK, shape, observer } = this.#o;
    const perRow = topK * shape.numLayers;
    for (const index of this.#owners.owner) {
      const rows = this.rowsOf[index];
      rows?.set(routerId, (rows.get(routerId) ?? 0) + perRow);
    }
    observer.rows(routerId, this.#owners.owner.length * perRow);
  }
}

/** A view in which nothing is ever missing and nothing changes. */
function constantViews(shape: ExpertShape): EngineViews {
  const total = shape.numLayers * shape.numExperts;
  const view: ExpertView<WorkerLink> = {
    epoch: 0,
    workers: [],
    holders: { numExperts: shape.numExperts, start: new Int32Array(total + 1), list: new Int32Array(0) },
    missing: 0,
    firstMissing: null,
    total,
  };
  return {
    pin: () => ({ view, release: () => undefined }),
    covered: true,
    uncoveredSinceMs: null,
    latest: view,
    ackedEpoch: 0,
    onChange: () => () => undefined,
  };
}
