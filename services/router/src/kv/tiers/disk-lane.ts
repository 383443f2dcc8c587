/** Work that may be given up. */
export interface BackgroundJob {
  /** Memory that it keeps while it waits. */
  bytes: number;
  run(): Promise<void>;
  /** It will not run. */
  drop(): void;
}

/**
 * Runs what changes a folder, one after the other: urgent work in its order, then background work in its order. The
 * latter keeps at most `limitBytes` of memory (or one job, whatever its size): the oldest job goes when a new one has no
 * room.
 */
export class DiskLane {
  readonly #limitBytes: number;
  readonly #onError: (err: unknown) => void;
  readonly #urgent: (() => Promise<void>)[] = [];
  readonly #background: BackgroundJob[] = [];
  #running = false;
  /** Of background jobs, with the one that runs. */
  #bytes = 0;
  #idle: (() => void)[] = [];

  /** `onError` gets what a job throws. */
  constructor(limitBytes: number, onError: (err: unknown) => void) {
    this.#limitBytes = limitBytes;
    this.#onError = onError;
  }

  get backgroundBytes(): number {
    return this.#bytes;
  }

  /** Runs `work` before anything in the background; resolves when it has run. */
  urgent(work: () => Promise<void>): Promise<void> {
    return new Promise((resolve) => {
      this.#urgent.push(async () => {
        await this.#guarded(work);
        resolve();
      });
      this.#start();
    });
  }

  background(job: BackgroundJob): void {
    const fits = (): boolean => this.#bytes === 0 || this.#bytes + job.bytes <= this.#limitBytes;
    while (!fits() && this.#background.length > 0) this.#dropOldest();
    if (!fits()) {
      job.drop();
      return;
    }
    this.#bytes += job.bytes;
    this.#background.push(job);
    this.#start();
  }

  /** Gives up all work in the background that does not run yet. */
  dropAll(): void {
    while (this.#background.length > 0) this.#dropOldest();
  }

  /** Resolves when nothing is left to do. */
  idle(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#running) this.#idle.push(resolve);
      else resolve();
    });
  }

  #dropOldest(): void {
    const job = this.#background.shift();
    if (job === undefined) return;
    this.#bytes -= job.bytes;
    job.drop();
  }

  #start(): void {
    if (this.#running) return;
    this.#running = true;
    void this.#run();
  }

  async #run(): Promise<void> {
    for (;;) {
      const urgent = this.#urgent.shift();
      const job = urgent === undefined ? this.#background.shift() : undefined;
      if (urgent !== undefined) await urgent();
      else if (job === undefined) break;
      else {
        await this.#guarded(() => job.run());
        this.#bytes -= job.bytes;
      }
    }
    this.#running = false;
    const waiting = this.#idle;
    this.#idle = [];
    for (const resolve of waiting) resolve();
  }

  async #guarded(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (err) {
      this.#onError(err);
    }
  }
}

/** Lets at most `limit` calls run at a time; the others wait in their order. */
export class Gate {
  readonly #waiting: (() => void)[] = [];
  #free: number;

  constructor(limit: number) {
    this.#free = limit;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }
}
