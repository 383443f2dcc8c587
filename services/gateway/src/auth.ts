import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { errorMessage, fail, TENANT_NAME } from '@guildhall/common';

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

/** Name of a key that says nothing of it. */
function idOfKey(key: string): string {
  return `static-${createHash('sha256').update(`guildhall-key\0${key}`).digest('hex').slice(0, 12)}`;
}

/** A key, and whom it belongs to. */
interface KeyEntry {
  key: string;
  tenant: string;
}

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

/** Whom a key belongs to, and a name of the key itself that does not give it away. */
export interface KeyOwner {
  tenant: string;
  keyId: string;
}

/** The API keys of options and files, kept as hashes. */
export class ApiKeys {
  readonly #keys: readonly { hash: Buffer; owner: KeyOwner }[];

  constructor(keys: readonly KeyEntry[]) {
    // A later entry may name the tenant of a key that was given before.
    const byKey = new Map(keys.map(({ key, tenant }) => [key, tenant]));
    this.#keys = [...byKey].map(([key, tenant]) => ({ hash: digest(key), owner: { tenant, keyId: idOfKey(key) } }));
  }

  /** Throws `config_invalid` when the key file cannot be read, is empty or has a line that is no entry. */
  static load(sources: KeySources): ApiKeys {
    const fromFile = sources.apiKeyFile === null ? [] : readKeyFile(sources.apiKeyFile);
    const given = [...sources.apiKey, ...sources.apiKeys].map((key) => ({ key, tenant: tenantOfKey(key) }));
    return new ApiKeys([...given, ...fromFile]);
  }

  /** True where there are any. */
  get some(): boolean {
    return this.#keys.length > 0;
  }

  /** The owner of a key, or null. Takes the same time whichever key matches, or none. */
  find(key: string): KeyOwner | null {
    const hash = digest(key);
    let owner: KeyOwner | null = null;
    for (const entry of this.#keys) owner = timingSafeEqual(hash, entry.hash) ? entry.owner : owner;
    return owner;
  }
}
