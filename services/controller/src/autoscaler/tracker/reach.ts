import { createHash } from 'node:crypto';
import type { Holdings, WorkerSignal } from '../signals.ts';

/** Name of the reach of workers that take every expert. */
export const ANY = 'any';

/** Names what each worker can load, so that workers of one reach are seen to be alike. */
export class Reaches {
  /** A worker's files do not change while it lives. */
  readonly #known = new Map<string, string>();

  of({ id, incarnation, loadable }: WorkerSignal): string {
    if (loadable === null) return ANY;
    const key = `${id}/${incarnation}`;
    const known = this.#known.get(key) ?? nameOf(loadable);
    this.#known.set(key, known);
    return known;
  }

  /** Forgets workers that are gone. */
  keep(workers: readonly WorkerSignal[]): void {
    const live = new Set(workers.map(({ id, incarnation }) => `${id}/${incarnation}`));
    for (const key of this.#known.keys()) if (!live.has(key)) this.#known.delete(key);
  }
}

function nameOf(loadable: Holdings): string {
  const layers = [...loadable].map(([layer, experts]) => [layer, [...experts].sort((a, b) => a - b)] as const);
  layers.sort((a, b) => a[0] - b[0]);
  return createHash('sha256').update(JSON.stringify(layers)).digest('hex').slice(0, 12);
}

/** Experts within a worker's reach. */
export function pairsOf({ loadable, numLayers, numExperts }: WorkerSignal): number {
  if (loadable === null) return numLayers * numExperts;
  return [...loadable.values()].reduce((sum, experts) => sum + new Set(experts).size, 0);
}

/** Experts of equal standing: so many of them, which workers of these reaches can load. */
interface Kind {
  count: number;
  reaches: readonly number[];
}

/**
 * Whether the workers have memory for every expert of the model, given what each can load: a flow from kinds of experts to
 * reaches of workers that takes every expert.
 */
export function haveRoom(workers: readonly WorkerSignal[], reaches: Reaches): boolean {
  const [first] = workers;
  if (first === undefined) return false;
  const byReach = new Map<string, { slots: number; worker: WorkerSignal }>();
  for (const worker of workers) {
    const reach = reaches.of(worker);
    const known = byReach.get(reach);
    byReach.set(reach, { slots: (known?.slots ?? 0) + worker.slots, worker });
  }
  const list = [...byReach.values()];
  const kinds = kindsOf(
    list.map(({ worker }) => worker.loadable),
    first,
  );
  return placeAll(
    kinds,
    list.map(({ slots }) => slots),
  );
}

function kindsOf(loadables: readonly (Holdings | null)[], { numLayers, numExperts }: WorkerSignal): Kind[] {
  const all = loadables.flatMap((loadable, reach) => (loadable === null ? [reach] : []));
  const keys = Array.from({ length: numLayers * numExperts }, () => all.join(','));
  for (const [reach, loadable] of loadables.entries()) {
    for (const [layer, experts] of loadable ?? [])
      for (const expert of experts) {
        const at = layer * numExperts + expert;
        if (layer < numLayers && expert < numExperts) keys[at] = `${keys[at]},${reach}`;
      }
  }
  const counts = new Map<string, number>();
  for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1);
  return [...counts].map(([key, count]) => ({
    count,
    reaches: [
      ...new Set(
        key
          .split(',')
          .filter((part) => part !== '')
          .map(Number),
      ),
    ],
  }));
}

/** Whether all experts find a place. Experts that are in the way move on to another reach that can load them. */
function placeAll(kinds: readonly Kind[], slots: readonly number[]): boolean {
  const left = [...slots];
  const placed = kinds.map(() => new Map<number, number>());
  const put = (kind: number, reach: number, count: number): void => {
    const at = placed[kind] as Map<number, number>;
    at.set(reach, (at.get(reach) ?? 0) + count);
  };
  const place = (kind: number, count: number, seen: Set<number>): number => {
    for (const reach of kinds[kind]?.reaches ?? []) {
      if (seen.has(reach)) continue;
      seen.add(reach);
      const free = Math.min(left[reach] ?? 0, count);
      if (free > 0) {
        left[reach] = (left[reach] ?? 0) - free;
        put(kind, reach, free);
        return free;
      }
      for (const [other, at] of placed.entries()) {
        const held = other === kind ? 0 : (at.get(reach) ?? 0);
        const moved = held > 0 ? place(other, Math.min(held, count), seen) : 0;
        if (moved === 0) continue;
        put(other, reach, -moved);
        put(kind, reach, moved);
        return moved;
      }
    }
    return 0;
  };
  return kinds.every(({ count }, kind) => {
    let rest = count;
    while (rest > 0) {
      const got = place(kind, rest, new Set());
      if (got === 0) return false;
      rest -= got;
    }
    return true;
  });
}

/** How many ready workers beside `gone` hold each expert: [layer*numExperts+expert]. */
export function copiesWithout(workers: readonly WorkerSignal[], gone: ReadonlySet<string>): Uint16Array {
  const { numLayers, numExperts } = workers[0] ?? { numLayers: 0, numExperts: 0 };
  const copies = new Uint16Array(numLayers * numExperts);
  for (const { id, ready, holdings } of workers) {
    if (!ready || gone.has(id)) continue;
    for (const [layer, experts] of holdings)
      for (const expert of experts) {
        const at = layer * numExperts + expert;
        if (at < copies.length) copies[at] = (copies[at] ?? 0) + 1;
      }
  }
  return copies;
}

/** Experts that no ready worker beside `gone` holds. */
export function lostWithout(workers: readonly WorkerSignal[], gone: ReadonlySet<string>): number {
  return copiesWithout(workers, gone).reduce((sum, copies) => sum + (copies === 0 ? 1 : 0), 0);
}

/** Experts that the worker alone holds. */
export function soleExperts({ holdings, numExperts }: WorkerSignal, copies: Uint16Array): number {
  let sole = 0;
  for (const [layer, experts] of holdings)
    for (const expert of experts) if (copies[layer * numExperts + expert] === 1) sole += 1;
  return sole;
}
