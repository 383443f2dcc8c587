import { type Metadata, timeMs } from './api/objects.ts';

/**
 * Who wrote spec.replicas last, by the API server's own account (managedFields); null where nobody is named. The times in it
 * are whole seconds: of two in the same one, a writer other than `self` is named, so that no foreign write is overlooked.
 */
export function replicasWriter({ managedFields }: Pick<Metadata, 'managedFields'>, self: string): string | null {
  let last: { manager: string; atMs: number } | null = null;
  for (const { manager, time, fieldsV1 } of managedFields) {
    const spec = (fieldsV1 as Record<string, unknown> | null | undefined)?.['f:spec'];
    if (typeof spec !== 'object' || spec === null || !('f:replicas' in spec)) continue;
    const atMs = timeMs(time) ?? 0;
    const later = last === null || atMs > last.atMs || (atMs === last.atMs && last.manager === self);
    if (later) last = { manager, atMs };
  }
  return last?.manager ?? null;
}
