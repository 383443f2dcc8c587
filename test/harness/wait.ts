/** Resolves with the first value that is neither false nor null; fails with `what` after `limitMs`. */
export async function until<T>(
  what: string,
  probe: () => Promise<T | false | null> | T | false | null,
  limitMs = 60_000,
): Promise<T> {
  const deadline = performance.now() + limitMs;
  let last: Error | null = null;
  while (performance.now() < deadline) {
    try {
      const value = await probe();
      if (value !== false && value !== null) return value;
    } catch (error) {
      last = error instanceof Error ? error : new Error(String(error));
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`waited ${limitMs} ms for: ${what}${last === null ? '' : ` (last error: ${last.message})`}`);
}
