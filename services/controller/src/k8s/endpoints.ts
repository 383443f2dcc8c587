import type { EndpointSliceObject } from './api/objects.ts';
import type { Informer } from './informer/informer.ts';
import type { Endpoints, EndpointState } from './types.ts';

/** Pods by the EndpointSlices of the services of routers and expert groups. */
export class KubeEndpoints implements Endpoints {
  readonly #slices: Pick<Informer<EndpointSliceObject>, 'items' | 'onChange'>;
  #memo: ReadonlyMap<string, EndpointState> | null = null;

  constructor(slices: Pick<Informer<EndpointSliceObject>, 'items' | 'onChange'>) {
    this.#slices = slices;
    slices.onChange(() => (this.#memo = null));
  }

  get current(): ReadonlyMap<string, EndpointState> | null {
    const { items } = this.#slices;
    if (items === null) return null;
    return (this.#memo ??= endpointsOf(items.values()));
  }

  onChange(listener: () => void): () => void {
    return this.#slices.onChange(listener);
  }
}

/**
 * One state for each pod. A pod is in a slice for each family of addresses, and those are not written at once: it is ready when
 * one says so, and terminating as soon as one does.
 */
export function endpointsOf(slices: Iterable<EndpointSliceObject>): ReadonlyMap<string, EndpointState> {
  const pods = new Map<string, EndpointState>();
  for (const { endpoints } of slices) {
    for (const { conditions, targetRef } of endpoints ?? []) {
      if (targetRef?.kind !== 'Pod') continue;
      // What is absent means: ready true, serving as ready, terminating false.
      const ready = conditions?.ready ?? true;
      const serving = conditions?.serving ?? ready;
      const before = pods.get(targetRef.name);
      const terminating = (conditions?.terminating ?? false) || before?.terminating === true;
      const isReady = ready || before?.ready === true;
      const usable = (serving || before?.usable === true) && !terminating;
      pods.set(targetRef.name, { pod: targetRef.name, ready: isReady, usable, terminating });
    }
  }
  return pods;
}
