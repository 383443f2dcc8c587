import type { KubeClient } from '../api/client.ts';
import { listSchema } from '../api/objects.ts';

/** Time for one page of a list, in ms: the largest of them take seconds on a busy server. */
export const LIST_MS = 30_000;
/** Objects of a page: a page of pods is then about 5 MB. */
const PAGE = 500;

/**
 * All objects of a collection, page by page, as of one version. The first page asks for the newest state, never for what a
 * server's cache happens to have. Errors: as of the client; 410 when the pages took so long that their version is forgotten.
 */
export async function listAll(
  client: KubeClient,
  path: string,
  query: Record<string, string>,
  signal: AbortSignal,
): Promise<{ items: unknown[]; version: string }> {
  const items: unknown[] = [];
  let next: string | null = null;
  for (;;) {
    const page: Record<string, string | number> = { ...query, limit: PAGE };
    if (next !== null) page['continue'] = next;
    const answer = listSchema.parse(
      await client.json({ method: 'GET', path, query: page, signal, timeoutMs: LIST_MS }),
    );
    items.push(...(answer.items ?? []));
    next = answer.metadata.continue ?? null;
    if (next === null || next === '') return { items, version: answer.metadata.resourceVersion };
  }
}
