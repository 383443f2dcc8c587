import { type ApiName, readEvent } from './api.ts';
import type { RequestFailure } from './errors.ts';
import { SseReader } from './sse-reader.ts';

/** Most text of an answer that is kept for the next turn. */
const LONGEST_KEPT = 4 * 2 ** 20;

/** Takes the bytes of one streamed answer with the times at which they came. */
export class AnswerReader {
  /** When the first and the latest event with text came, monotonic milliseconds. */
  firstTokenMs: number | null = null;
  lastTokenMs: number | null = null;
  /** Times between two events with text, in milliseconds. */
  readonly gapsMs: number[] = [];
  /** Events with text. */
  chunks = 0;
  usage: { prompt: number; completion: number; cached: number } | null = null;
  failure: RequestFailure | null = null;
  readonly #api: ApiName;
  readonly #keep: boolean;
  readonly #onText: (atMs: number) => void;
  readonly #sse = new SseReader();
  #content = '';
  #done = false;

  /** `keep`: whether the answer's text is wanted. `onText` is called for each event with text. */
  constructor(api: ApiName, keep: boolean, onText: (atMs: number) => void) {
    this.#api = api;
    this.#keep = keep;
    this.#onText = onText;
  }

  /** The answer's text, when it is kept. */
  get content(): string {
    return this.#content;
  }

  /** Bytes that came at `atMs`; events that come in one piece have the same time. */
  feed(bytes: Buffer, atMs: number): void {
    if (this.failure !== null) return;
    const events = this.#sse.feed(bytes);
    if (events === null) this.#fail('bad_answer', 'an event is longer than 16 MiB');
    for (const data of events ?? []) this.#event(data, atMs);
  }

  /** The stream has ended. */
  end(): void {
    if (this.failure !== null) return;
    if (!this.#done) this.#fail('stream_cut', `the stream ended after ${this.chunks} pieces without a finish reason`);
    else if (this.chunks === 0 && (this.usage?.completion ?? 0) === 0)
      this.#fail('no_tokens', 'the answer has no token');
  }

  /** Output tokens: the server's count, or one for each event with text where it gives none. */
  get outputTokens(): number {
    return this.usage?.completion ?? this.chunks;
  }

  #event(data: string, atMs: number): void {
    if (this.failure !== null) return;
    if (data === '[DONE]') {
      this.#done = true;
      return;
    }
    const reading = readEvent(this.#api, data);
    if (reading === null) return this.#fail('bad_answer', `an event is no JSON: ${data.slice(0, 120)}`);
    if (reading.error !== null) return this.#fail('stream_error', reading.error);
    if (reading.usage !== null) this.usage = reading.usage;
    if (reading.finished) this.#done = true;
    if (reading.text !== '') this.#textAt(atMs);
    if (this.#keep && this.#content.length < LONGEST_KEPT) this.#content += reading.content;
  }

  #textAt(atMs: number): void {
    this.firstTokenMs ??= atMs;
    if (this.lastTokenMs !== null) this.gapsMs.push(atMs - this.lastTokenMs);
    this.lastTokenMs = atMs;
    this.chunks++;
    this.#onText(atMs);
  }

  #fail(kind: RequestFailure['kind'], message: string): void {
    this.failure = { kind, message };
  }
}
