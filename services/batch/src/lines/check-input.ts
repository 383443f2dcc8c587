import { createHash } from 'node:crypto';
import type { BatchProblem } from '../store/batch-store.ts';
import { readLines } from './line-reader.ts';
import { isProblem, parseRequestLine } from './request-line.ts';

/** Findings that are told; a file with more is wrong all the same. */
const MAX_PROBLEMS = 100;

export interface CheckedInput {
  /** Requests in the file. */
  total: number;
  /** Empty when the file is right. */
  problems: BatchProblem[];
}

export interface InputLimits {
  endpoint: string;
  maxLines: number;
  maxLineBytes: number;
}

/** Reads a whole input file before anything of it is run: one bad line refuses the batch, with the line's number. */
export async function checkInput(source: AsyncIterable<Uint8Array>, limits: InputLimits): Promise<CheckedInput> {
  const { endpoint, maxLines, maxLineBytes } = limits;
  const problems: BatchProblem[] = [];
  // Names may be long, and there may be many: what is kept is a hash.
  const seen = new Set<string>();
  let total = 0;
  for await (const { place, text } of readLines(source, maxLineBytes)) {
    total += 1;
    if (total > maxLines || problems.length >= MAX_PROBLEMS) break;
    const add = (code: string, message: string, param: string): unknown =>
      problems.push({ code, message, param, line: place });
    if (text === null) {
      add('line_too_long', `the line is longer than ${maxLineBytes} bytes`, '');
      continue;
    }
    const line = parseRequestLine(text, endpoint);
    if (isProblem(line)) {
      add(line.code, line.message, line.param);
      continue;
    }
    const name = createHash('sha1').update(line.custom_id).digest('base64');
    if (seen.has(name))
      add('duplicate_custom_id', `custom_id: "${line.custom_id.slice(0, 80)}" was there before`, 'custom_id');
    seen.add(name);
  }
  if (total === 0)
    problems.push({ code: 'empty_file', message: 'the file holds no request', param: 'input_file_id', line: 0 });
  if (total > maxLines) {
    const message = `the file holds more than ${maxLines} requests`;
    problems.push({ code: 'too_many_requests', message, param: 'input_file_id', line: 0 });
  }
  return { total, problems };
}
