import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { errorMessage, fail } from '@guildhall/common';

/** Keys as the configuration gives them. */
export interface KeySources {
  apiKey: readonly string[];
  apiKeys: readonly string[];
  apiKeyFile: string | null;
}

function digest(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

function readKeyFile(path: string): string[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (err) {
    throw fail('config_invalid', `${path}: cannot be read: ${errorMessage(err)}`, { field: 'apiKeyFile', cause: err });
  }
  const keys = text
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim())
    .filter((line) => line !== '');
  if (keys.length === 0) throw fail('config_invalid', `${path}: holds no key`, { field: 'apiKeyFile' });
  return keys;
}

/** The API keys, kept as hashes. Without any, everybody is let in. */
export class ApiKeys {
  readonly #hashes: readonly Buffer[];

  constructor(keys: readonly string[]) {
    this.#hashes = [...new Set(keys)].map(digest);
  }

  /** Throws `config_invalid` when the key file cannot be read or is empty. */
  static load(sources: KeySources): ApiKeys {
    const fromFile = sources.apiKeyFile === null ? [] : readKeyFile(sources.apiKeyFile);
    return new ApiKeys([...sources.apiKey, ...sources.apiKeys, ...fromFile]);
  }

  get required(): boolean {
    return this.#hashes.length > 0;
  }

  /** Checks an Authorization header. Throws `unauthorized`. Takes the same time whichever key matches, or none. */
  check(header: string | undefined): void {
    if (!this.required) return;
    const given = /^Bearer +(\S+)$/i.exec(header ?? '')?.[1];
    if (given === undefined) throw fail('unauthorized', 'an API key is required: send `Authorization: Bearer <key>`');
    const hash = digest(given);
    let known = false;
    for (const expected of this.#hashes) known = timingSafeEqual(hash, expected) || known;
    if (!known) throw fail('unauthorized', 'the API key is not valid');
  }
}
