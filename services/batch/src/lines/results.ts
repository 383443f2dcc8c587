import { randomBytes } from 'node:crypto';
import type { Segment } from '../store/batch-store.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { ApiAnswer } from './api-client.ts';

/** What came of a line. */
export interface LineResult {
  /** From 0. */
  number: number;
  customId: string;
  /** Null when it was not run. */
  answer: ApiAnswer | null;
  error: { code: string; message: string } | null;
}

export interface ResultsOptions {
  batchId: string;
  /** Names parts, so that two processes never write the same one. */
  owner: string;
  blobs: BlobStore;
  /** False when another process owns the batch. */
  commit: (segment: Segment) => Promise<boolean>;
}

/** Lines of one part at most. */
export const PART_LINES = 64;
const NO_LIMIT = Number.MAX_SAFE_INTEGER;

/** Folder of a batch's parts. */
export function partsOf(batchId: string): string {
  return `parts/${batchId}`;
}

/** Name of a part; it says how many lines each half holds. */
function partName(owner: string, number: number, output: number, error: number): string {
  return `${owner}-${number}-${output}-${error}`;
}

/** Name of the half of a part that holds what succeeded, or what failed; null when there is no such line in it. */
export function halfOf(batchId: string, part: string, kind: 'output' | 'error'): string | null {
  const [output = '0', error = '0'] = part.split('-').slice(-2);
  return (kind === 'output' ? output : error) === '0' ? null : `${partsOf(batchId)}/${part}.${kind}`;
}

function succeeded({ answer, error }: LineResult): boolean {
  return error === null && answer !== null && answer.status < 400;
}

/** A line of an output or error file, as OpenAI's API has it. */
export function resultText({ customId, answer, error }: LineResult): string {
  const response =
    answer === null ? null : { status_code: answer.status, request_id: answer.requestId, body: answer.body };
  return `${JSON.stringify({ id: `batch_req_${randomBytes(12).toString('hex')}`, custom_id: customId, response, error })}\n`;
}

/** Gathers results and stores them part by part. A part counts once it is committed; before that its lines are not done. */
export class Results {
  readonly #o: ResultsOptions;
  #waiting: LineResult[] = [];
  #parts = 0;
  /** Parts are written one after the other. */
  #tail: Promise<void> = Promise.resolve();
  #lost = false;

  constructor(options: ResultsOptions) {
    this.#o = options;
  }

  /** True once another process owns the batch: nothing counts any more. */
  get lost(): boolean {
    return this.#lost;
  }

  /** Takes a result; stores a part when there are enough. */
  async add(result: LineResult): Promise<void> {
    this.#waiting.push(result);
    if (this.#waiting.length >= PART_LINES) await this.flush();
  }

  /** Stores what waits. */
  flush(): Promise<void> {
    const results = this.#waiting;
    this.#waiting = [];
    if (results.length > 0) this.#tail = this.#tail.then(() => this.#store(results));
    return this.#tail;
  }

  async #store(results: readonly LineResult[]): Promise<void> {
    if (this.#lost) return;
    const { batchId, owner, blobs, commit } = this.#o;
    const good = results.filter(succeeded);
    const bad = results.filter((result) => !succeeded(result));
    const name = partName(owner, ++this.#parts, good.length, bad.length);
    for (const [kind, some] of [['output', good] as const, ['error', bad] as const]) {
      const half = halfOf(batchId, name, kind);
      const bytes = some.map((result) => Buffer.from(resultText(result)));
      if (half !== null) await blobs.write(half, chunks(bytes), NO_LIMIT);
    }
    const lines = results.map(({ number }) => number);
    const counted = await commit({ name, completed: good.length, failed: bad.length, lines });
    if (!counted) this.#lost = true;
  }
}

async function* chunks(parts: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* parts;
}
