import type { Clock, Timer } from '../clock.ts';

/**
 * Runs a task now, then every `everyMs`, and at once when poked; never two at a time. A poke during a run causes one
 * more run after it. The task must not throw.
 */
export class Poller {
  readonly #clock: Clock;
  readonly #everyMs: () => number;
  readonly #task: () => Promise<void>;
  #timer: Timer | null = null;
  #running: Promise<void> | null = null;
  #again = false;
  #stopped = true;

  /** `everyMs` is asked for after each run where it is a function. */
  constructor(clock: Clock, everyMs: number | (() => number), task: () => Promise<void>) {
    this.#clock = clock;
    this.#everyMs = typeof everyMs === 'number' ? () => everyMs : everyMs;
    this.#task = task;
  }

  /** Resolves after the first run. */
  async start(): Promise<void> {
    this.#stopped = false;
    this.poke();
    await this.#running;
  }

  poke(): void {
    if (this.#stopped) return;
    if (this.#running !== null) {
      this.#again = true;
      return;
    }
    this.#timer?.cancel();
    this.#running = this.#loop();
  }

  /** Resolves after a run that began after this call; at once when stopped. */
  async run(): Promise<void> {
    this.poke();
    await this.#running;
  }

  /** Resolves when no run is in flight. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#running;
  }

  async #loop(): Promise<void> {
    do {
      this.#again = false;
      await this.#task();
    } while (this.#again && !this.#stopped);
    this.#running = null;
    if (!this.#stopped) this.#timer = this.#clock.setTimer(this.#everyMs(), () => this.poke());
  }
}
