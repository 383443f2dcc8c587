import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fail, isGuildhallError, type GuildhallError } from '@guildhall/common';

/** Deepest nesting of a configuration file; more is an attack on recursive code, never a model. */
const MAX_DEPTH = 64;

/** Short text of a value for an error message. */
export function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** True for a plain JSON object. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function systemCode(err: unknown): string {
  return String((err as { code?: unknown }).code ?? err);
}

/** Error for a file that could not be opened or read: missing, or there and unreadable. */
export function fileError(path: string, err: unknown): GuildhallError {
  const code = systemCode(err);
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return fail('checkpoint_not_found', `${path}: no such file`, { cause: err });
  }
  return fail('checkpoint_invalid', `${path}: cannot be read (${code})`, { cause: err });
}

/**
 * Reads a whole text file of a checkpoint.
 * @param maxBytes a larger file is refused before it is read.
 * @throws checkpoint_not_found, checkpoint_invalid (not a regular file, too large, not UTF-8).
 */
export function readTextFile(dir: string, name: string, maxBytes: number): string {
  const path = join(dir, name);
  let bytes: Buffer;
  try {
    const fd = openSync(path, 'r');
    try {
      const stat = fstatSync(fd);
      if (!stat.isFile()) throw fail('checkpoint_invalid', `${path}: found no regular file`);
      if (stat.size > maxBytes) {
        throw fail('checkpoint_invalid', `${path}: found ${stat.size} bytes, expected at most ${maxBytes}`);
      }
      bytes = readFileSync(fd);
    } finally {
      closeSync(fd);
    }
  } catch (err) {
    throw isGuildhallError(err) ? err : fileError(path, err);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (err) {
    throw fail('checkpoint_invalid', `${path}: not valid UTF-8`, { cause: err });
  }
}

/** As readTextFile; null where the file does not exist. */
export function readOptionalTextFile(dir: string, name: string, maxBytes: number): string | null {
  try {
    return readTextFile(dir, name, maxBytes);
  } catch (err) {
    if (isGuildhallError(err) && err.code === 'checkpoint_not_found') return null;
    throw err;
  }
}

function depthOf(root: unknown): number {
  const stack: [unknown, number][] = [[root, 0]];
  let deepest = 0;
  for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
    const [value, depth] = top;
    deepest = Math.max(deepest, depth);
    if (depth > MAX_DEPTH) return depth;
    if (typeof value !== 'object' || value === null) continue;
    for (const child of Object.values(value)) {
      if (typeof child === 'object' && child !== null) stack.push([child, depth + 1]);
    }
  }
  return deepest;
}

/** Parses the text of a checkpoint's JSON file, whose root must be an object. */
export function parseJsonObject(path: string, text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (err) {
    throw fail('checkpoint_invalid', `${path}: not valid JSON (${(err as Error).message})`, { cause: err });
  }
  if (!isRecord(value)) {
    throw fail('checkpoint_invalid', `${path}: found ${describe(value)}, expected a JSON object`);
  }
  if (depthOf(value) > MAX_DEPTH) {
    throw fail('checkpoint_invalid', `${path}: nested deeper than ${MAX_DEPTH} levels`);
  }
  return value;
}

/** Reads a JSON object from a file of a checkpoint; errors as readTextFile and parseJsonObject. */
export function readJsonObject(dir: string, name: string, maxBytes: number): Record<string, unknown> {
  return parseJsonObject(join(dir, name), readTextFile(dir, name, maxBytes));
}

/** As readJsonObject; null where the file does not exist. */
export function readOptionalJsonObject(dir: string, name: string, maxBytes: number): Record<string, unknown> | null {
  const text = readOptionalTextFile(dir, name, maxBytes);
  return text === null ? null : parseJsonObject(join(dir, name), text);
}
