/** Long texts that are encoded at a time: half of the threads that Node.js has for such work. */
const MAX_RUNNING = 2;

/** Lets few long tasks run at a time, first come, first served, so that they leave threads to short ones. */
export class Turns {
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  /** Runs a task when it is its turn. */
  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#running >= MAX_RUNNING) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#running += 1;
    try {
      return await task();
    } finally {
      // Whoever is next has the place of this one.
      const next = this.#waiting.shift();
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }
}
