import type { Answer } from './fuzz-client.ts';

/** Ids of each kind that are remembered. */
const KEPT = 12;
const ID = /^\{[^]{0,300}?"id":"((?:resp_|batch_|file-|upload_|part_)[\w-]{1,80})"/;

/** Ids of what requests have made, so that others can name it. */
export class KnownIds {
  readonly #kinds = new Map<string, string[]>();

  /** Those of the last ones, of every kind. */
  get list(): readonly string[] {
    return [...this.#kinds.values()].flat();
  }

  /** Takes the id out of an answer that has one. */
  learn({ status, body }: Answer): void {
    if (status !== 200) return;
    const text = body
      .subarray(0, 600)
      .toString()
      .replace(/^event: [^\n]*\ndata: \{[^]{0,100}?"response":/, '');
    const id = ID.exec(text)?.[1];
    if (id === undefined) return;
    const kind = id.slice(0, 4);
    const ids = this.#kinds.get(kind) ?? [];
    this.#kinds.set(kind, [...ids.filter((known) => known !== id), id].slice(-KEPT));
  }
}
