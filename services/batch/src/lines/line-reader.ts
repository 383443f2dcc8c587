import { fail } from '@guildhall/common';

const NEWLINE = 10;

/** One line of a file. */
export interface Line {
  /** From 0, empty lines not counted. */
  number: number;
  /** From 1, as an editor counts them. */
  place: number;
  /** Null for a line that is longer than allowed. */
  text: string | null;
}

/** Lines of a file that hold something. No more than `maxLineBytes` of a line are kept. Throws `invalid_value` for what is not UTF-8. */
export async function* readLines(source: AsyncIterable<Uint8Array>, maxLineBytes: number): AsyncGenerator<Line> {
  let parts: Uint8Array[] = [];
  let bytes = 0;
  let place = 0;
  let number = 0;
  const take = (): Line | null => {
    place += 1;
    const text = bytes > maxLineBytes ? null : textOf(parts, place);
    parts = [];
    bytes = 0;
    return text?.trim() === '' ? null : { number: number++, place, text };
  };
  for await (const chunk of source) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      bytes += end - start;
      if (bytes <= maxLineBytes) parts.push(chunk.subarray(start, end));
      const line = take();
      if (line !== null) yield line;
      start = end + 1;
    }
    bytes += chunk.length - start;
    if (bytes <= maxLineBytes) parts.push(chunk.subarray(start));
    else parts = [];
  }
  const last = bytes > 0 ? take() : null;
  if (last !== null) yield last;
}

function textOf(parts: readonly Uint8Array[], place: number): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(parts));
  } catch (err) {
    throw fail('invalid_value', `line ${place} is not UTF-8`, { field: 'input_file_id', cause: err });
  }
}
