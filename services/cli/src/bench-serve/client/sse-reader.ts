import { StringDecoder } from 'node:string_decoder';

/** Longest event that is kept; a server that sends more in one does not speak this protocol. */
const LONGEST_EVENT = 16 * 2 ** 20;

/**
 * Splits the bytes of an event stream into the `data` of its events (WHATWG HTML, server-sent events): any line ending, comments
 * and other fields skipped, several `data` lines joined.
 */
export class SseReader {
  readonly #decoder = new StringDecoder('utf8');
  #rest = '';
  #data: string[] = [];
  #size = 0;
  #afterReturn = false;

  /** Data of the events that these bytes end. @returns null when an event is longer than any should be. */
  feed(bytes: Buffer): string[] | null {
    const events: string[] = [];
    let text = this.#rest + this.#decoder.write(bytes);
    // A \n that belongs to the \r before it, which ended the last line.
    if (this.#afterReturn && text.startsWith('\n')) text = text.slice(1);
    if (text !== '') this.#afterReturn = text.endsWith('\r');
    const lines = text.split(/\r\n|\n|\r/);
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#line(line, events);
    return this.#rest.length + this.#size > LONGEST_EVENT ? null : events;
  }

  #line(line: string, events: string[]): void {
    if (line === '') {
      if (this.#data.length > 0) events.push(this.#data.join('\n'));
      this.#data = [];
      this.#size = 0;
    } else if (line.startsWith('data:')) {
      const value = line.slice(line.startsWith('data: ') ? 6 : 5);
      this.#data.push(value);
      this.#size += value.length;
    }
  }
}
