import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { errorMessage, fail } from '@guildhall/common';

/** Makes a folder that only its owner can enter; an existing one is closed to others. */
export function makePrivateDir(path: string): void {
  if (!existsSync(path)) {
    mkdirSync(dirname(path), { recursive: true });
    mkdirSync(path, { mode: 0o700 });
    keepOwner(path);
  }
  chmodSync(path, 0o700);
}

/** Replaces a file in one step; `mode` 0600 for secrets. */
export function writeFile(path: string, text: string, mode: number): void {
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, text, { mode });
  chmodSync(draft, mode);
  keepOwner(draft);
  renameSync(draft, path);
}

export function writeJson(path: string, value: unknown, mode: number): void {
  writeFile(path, `${JSON.stringify(value, null, 2)}\n`, mode);
}

/** The text of a file, or null when there is none. Throws `config_invalid` when it cannot be read. */
export function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw fail('config_invalid', `${path}: cannot be read: ${errorMessage(err)}`, { cause: err });
  }
}

/** A JSON file, or null when there is none. Throws `config_invalid` for one that is damaged. */
export function readJson<T>(path: string): T | null {
  const text = readText(path);
  if (text === null) return null;
  try {
    return JSON.parse(text) as T;
  } catch (err) {
    throw fail('config_invalid', `${path}: not valid JSON: ${errorMessage(err)}`, { cause: err });
  }
}

/** What root writes into the folder of a service's user must stay readable for that user. */
function keepOwner(path: string): void {
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = statSync(dirname(path));
  if (uid !== 0) chownSync(path, uid, gid);
}
