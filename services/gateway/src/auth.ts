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

/** Name of a key's owner that says nothing of the key. */
function tenantOfKey(key: string): string {
  return createHash('sha256').update(`guildhall-tenant\0${key}`).digest('hex').slice(0, 16);
}

/** A key, and whom it belongs to. */
interface KeyEntry {
  key: string;
  tenant: string;
}

const TENANT_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/;

function parseKeyLine(path: string, line: string): KeyEntry {
  const [key = '', name, ...rest] = line.split(/\s+/);
  if (name === undefined) return { key, tenant: tenantOfKey(key) };
  if (rest.length === 0 && TENANT_NAME.test(name)) return { key, tenant: name };
  const message = `${path}: a line holds a key and perhaps a name of 1 to 63 letters, digits, dots, dashes or underscores`;
  throw fail('config_invalid', message, { field: 'apiKeyFile' });
}

function readKeyFile(path: string): KeyEntry[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (err) {
    throw fail('config_invalid', `${path}: cannot be read: ${errorMessage(err)}`, { field: 'apiKeyFile', cause: err });
  }
  const keys = text
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim())
    .filter((line) => line !== '')
    .map((line) => parseKeyLine(path, line));
  if (keys.length === 0) throw fail('config_invalid', `${path}: holds no key`, { field: 'apiKeyFile' });
  return keys;
}

/** The API keys, kept as hashes. Without any, everybody is let in, as one tenant without a name. */
export class ApiKeys {
  readonly #keys: readonly { hash: Buffer; tenant: string }[];

  constructor(keys: readonly KeyEntry[]) {
    // A later entry may name the tenant of a key that was given before.
    const byKey = new Map(keys.map(({ key, tenant }) => [key, tenant]));
    this.#keys = [...byKey].map(([key, tenant]) => ({ hash: digest(key), tenant }));
  }

  /** Throws `config_invalid` when the key file cannot be read, is empty or has a line that is no entry. */
  static load(sources: KeySources): ApiKeys {
    const fromFile = sources.apiKeyFile === null ? [] : readKeyFile(sources.apiKeyFile);
    const given = [...sources.apiKey, ...sources.apiKeys].map((key) => ({ key, tenant: tenantOfKey(key) }));
    return new ApiKeys([...given, ...fromFile]);
  }

  get required(): boolean {
    return this.#keys.length > 0;
  }

  /**
   * Checks an Authorization header and returns the caller's tenant, '' where no key is required. Throws `unauthorized`.
   * Takes the same time whichever key matches, or none.
   */
  check(header: string | undefined): string {
    if (!this.required) return '';
    const given = /^Bearer +(\S+)$/i.exec(header ?? '')?.[1];
    if (given === undefined) throw fail('unauthorized', 'an API key is required: send `Authorization: Bearer <key>`');
    const hash = digest(given);
    let tenant: string | null = null;
    for (const entry of this.#keys) tenant = timingSafeEqual(hash, entry.hash) ? entry.tenant : tenant;
    if (tenant === null) throw fail('unauthorized', 'the API key is not valid');
    return tenant;
  }
}
