/** Lets one loop sleep until somebody has news for it. News that come while it is awake are not lost. */
export class Gate {
  #news = false;
  #wake: (() => void) | null = null;

  /** There is news. */
  open(): void {
    this.#news = true;
    this.#wake?.();
    this.#wake = null;
  }

  /** Resolves once there has been news since the last time it resolved. */
  async wait(): Promise<void> {
    if (!this.#news) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#news = false;
  }
}
