/** Microseconds of a worker for one expert row of decode, and for one message besides its rows. */
export interface Speed {
  usPerRow: number;
  usPerMessage: number;
}

/** Messages before anything is said. */
const LEAST_MESSAGES = 200;
/** Share that a message takes of the mean: about the last thousand messages count. */
const SHARE = 0.001;
/** A message that took longer than so many times what was expected counts as this long: others had the cores. */
const CLIP = 3;
/** What is said changes only by more than this share, so that a worker's entry in Redis does not change all the time. */
const STICKY = 0.2;

const UNKNOWN: Speed = { usPerRow: 0, usPerMessage: 0 };

/** Fits a line through compute time over rows of the decode messages, newer ones counting more. */
export class SpeedMeter {
  #messages = 0;
  // Weighted means of rows, microseconds, rows² and rows×microseconds.
  #x = 0;
  #y = 0;
  #xx = 0;
  #xy = 0;
  #said = UNKNOWN;

  /** Takes one decode message that was computed: its expert rows, and the microseconds that they took. */
  observe(rows: number, us: number): void {
    if (!(rows > 0) || !(us >= 0)) return;
    this.#messages += 1;
    const warm = this.#messages > LEAST_MESSAGES / 2;
    const expected = warm ? this.#fit() : null;
    const y = expected === null ? us : Math.min(us, CLIP * (expected.usPerMessage + expected.usPerRow * rows));
    // The first ones count alike.
    const share = Math.max(SHARE, 1 / this.#messages);
    this.#x += share * (rows - this.#x);
    this.#y += share * (y - this.#y);
    this.#xx += share * (rows * rows - this.#xx);
    this.#xy += share * (rows * y - this.#xy);
  }

  /** What the worker says of itself; zeros before enough was measured. */
  get speed(): Speed {
    if (this.#messages < LEAST_MESSAGES) return UNKNOWN;
    const now = this.#fit();
    const mean = this.#said.usPerMessage + this.#said.usPerRow * this.#x;
    const rowMoved = Math.abs(now.usPerRow - this.#said.usPerRow) > STICKY * this.#said.usPerRow;
    const messageMoved = Math.abs(now.usPerMessage - this.#said.usPerMessage) > STICKY * mean;
    if (rowMoved || messageMoved) this.#said = now;
    return this.#said;
  }

  /** A line that goes up and does not begin below zero; without different numbers of rows, all time is that of rows. */
  #fit(): Speed {
    const perRow = this.#y / this.#x;
    const variance = this.#xx - this.#x * this.#x;
    if (variance < 0.01 * this.#x * this.#x) return { usPerRow: perRow, usPerMessage: 0 };
    const slope = (this.#xy - this.#x * this.#y) / variance;
    const usPerRow = Math.min(perRow, Math.max(slope, 0.05 * perRow));
    return { usPerRow, usPerMessage: Math.max(0, this.#y - usPerRow * this.#x) };
  }
}
