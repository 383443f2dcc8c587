import type { TextDelta } from './parser.ts';

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
    delta.toolCalls.push({ index, id: this.#ids(index), name, arguments: '' });
  }

  /** A piece of the arguments of the call that began last. */
  write(delta: TextDelta, json: string): void {
    if (json === '') return;
    const index = this.#begun - 1;
    const last = delta.toolCalls.at(-1);
    // The first piece of a call carries its name alone, as clients expect it.
    if (last?.index === index && last.id === undefined) last.arguments += json;
    else delta.toolCalls.push({ index, arguments: json });
  }

  /** The call that began last is complete. */
  end(): void {
    this.#complete += 1;
  }
}
