/** The task as one that runs at its first call only; every call gets the promise of that run. */
export function once<T>(task: () => Promise<T>): () => Promise<T> {
  let run: Promise<T> | null = null;
  return () => (run ??= task());
}
