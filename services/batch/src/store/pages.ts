import type { Redis } from 'ioredis';

/** A page of ids, newest first unless ascending. */
export interface PageRequest {
  limit: number;
  /** Id of the last one of the page before; '' for the first page. */
  after: string;
  ascending: boolean;
}

/** Ids of a sorted set from behind `after`; an unknown `after` begins at the start. At most `count`. */
export async function idsAfter(
  redis: Redis,
  key: string,
  { after, ascending }: PageRequest,
  count: number,
): Promise<string[]> {
  const rank = after === '' ? null : await (ascending ? redis.zrank(key, after) : redis.zrevrank(key, after));
  const start = rank === null ? 0 : rank + 1;
  const end = String(start + count - 1);
  return ascending ? await redis.zrange(key, String(start), end) : await redis.zrange(key, String(start), end, 'REV');
}
