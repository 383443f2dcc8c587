/** Runs `work` on items as they come, at most `limit` at a time. Rejects with the first failure, after what runs has ended. */
export async function forEachAtMost<T>(
  items: AsyncIterable<T>,
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const running = new Set<Promise<void>>();
  let failure: { err: unknown } | null = null;
  const start = (item: T): void => {
    const one = work(item)
      .catch((err: unknown) => void (failure ??= { err }))
      .finally(() => running.delete(one));
    running.add(one);
  };
  try {
    for await (const item of items) {
      start(item);
      if (running.size >= limit) await Promise.race(running);
      if (failure !== null) break;
    }
  } finally {
    await Promise.all(running);
  }
  if (failure !== null) throw (failure as { err: unknown }).err;
}
