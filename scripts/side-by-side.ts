/** One piece of work and how much of the machine it takes. */
export interface Job<T> {
  /** Cores; more than there are means alone. */
  cores: number;
  run: () => Promise<T>;
}

/**
 * Runs jobs side by side as far as `capacity` cores allow, and gives their results in the order of the jobs.
 * A job that does not fit waits, and smaller ones after it go first; a job that rejects lets the others end.
 */
export async function sideBySide<T>(jobs: readonly Job<T>[], capacity: number): Promise<T[]> {
  const results = new Map<Job<T>, T>();
  const failures: unknown[] = [];
  let waiting = jobs;
  const running = new Set<Promise<void>>();
  let free = capacity;
  const start = (job: Job<T>, cores: number): void => {
    free -= cores;
    const ended = job
      .run()
      .then(
        (result) => void results.set(job, result),
        (error: unknown) => void failures.push(error),
      )
      .finally(() => {
        free += cores;
        running.delete(ended);
      });
    running.add(ended);
  };
  for (;;) {
    waiting = waiting.filter((job) => {
      const cores = Math.min(job.cores, capacity);
      if (cores > free + 1e-9) return true;
      start(job, cores);
      return false;
    });
    if (running.size === 0) break;
    await Promise.race(running);
  }
  if (failures.length > 0) throw failures[0];
  return jobs.map((job) => results.get(job) as T);
}
