/**
 * Progress of long work on stderr: one line that redraws itself on a terminal, one line per change elsewhere, so
 * that logs stay readable.
 */
export class Progress {
  readonly #stream: NodeJS.WriteStream;
  readonly #quiet: boolean;
  #last = '';

  constructor(options: { quiet: boolean; stream?: NodeJS.WriteStream }) {
    this.#stream = options.stream ?? process.stderr;
    this.#quiet = options.quiet;
  }

  /** True where a line can be drawn over; elsewhere every update is a line of its own. */
  get redraws(): boolean {
    return this.#stream.isTTY;
  }

  /** Shows what is being done; `fraction` in 0..1 draws a bar. */
  update(label: string, fraction: number | null = null): void {
    if (this.#quiet) return;
    const text = fraction === null ? label : `${bar(fraction)} ${label}`;
    if (text === this.#last) return;
    this.#last = text;
    if (this.#stream.isTTY) this.#stream.write(`\r\x1b[2K${text}`);
    else if (fraction === null || fraction >= 1) this.#stream.write(`${label}\n`);
  }

  /** Ends the redrawn line, leaving `label` on it. */
  done(label: string): void {
    if (this.#quiet) return;
    this.#stream.write(this.#stream.isTTY ? `\r\x1b[2K${label}\n` : `${label}\n`);
    this.#last = '';
  }
}

function bar(fraction: number): string {
  const width = 24;
  const filled = Math.round(Math.min(Math.max(fraction, 0), 1) * width);
  return `[${'█'.repeat(filled)}${'·'.repeat(width - filled)}]`;
}
