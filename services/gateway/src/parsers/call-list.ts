import { sayCall, type TextDelta } from './parser.ts';

/** Gives the call at a place among the calls of a choice its id. */
export type CallIds = (index: number) => string;

/** Counts the calls of one choice and writes their pieces into deltas. */
export class CallList {
  readonly #ids: CallIds;
  #begun = 0;
  #complete = 0;

  constructor(ids: CallIds) {
    this.#ids = ids;
  }

  /** Calls that are complete. */
  get complete(): number {
    return this.#complete;
  }

  /** A call begins; what is written goes to it. */
  begin(delta: TextDelta, name: string): void {
    const index = this.#begun;
    this.#begun += 1;
    sayCall(delta, { index, id: this.#ids(index), name, arguments: '' });
  }

  /** A piece of the arguments of the call that began last. */
  write(delta: TextDelta, json: string): void {
    if (json !== '') sayCall(delta, { index: this.#begun - 1, arguments: json });
  }

  /** The call that began last is complete. */
  end(): void {
    this.#complete += 1;
  }
}
