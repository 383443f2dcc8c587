/** Progress on stderr: one line that redraws itself on a terminal, a line per finished piece of work elsewhere. */
export class Progress {
  readonly #stream: NodeJS.WriteStream;
  #last = '';
  #drawn = 0;

  constructor(stream: NodeJS.WriteStream = process.stderr) {
    this.#stream = stream;
  }

  /** What is being done and how much of it is, from 0 to 1. */
  update(label: string, fraction: number): void {
    if (!this.#stream.isTTY) {
      if (label !== this.#last) this.#stream.write(`${label}\n`);
      this.#last = label;
      return;
    }
    const now = performance.now();
    if (label === this.#last && now - this.#drawn < 100) return;
    this.#last = label;
    this.#drawn = now;
    this.#stream.write(`\r\x1b[2K${bar(fraction)} ${label}`);
  }

  /** A line that stays. */
  done(label: string): void {
    this.#stream.write(this.#stream.isTTY ? `\r\x1b[2K${label}\n` : `${label}\n`);
    this.#last = '';
  }
}

function bar(fraction: number): string {
  const width = 24;
  const filled = Math.round(Math.min(Math.max(fraction, 0), 1) * width);
  return `[${'█'.repeat(filled)}${'·'.repeat(width - filled)}]`;
}
