import { readFileSync } from 'node:fs';
import { createSecureContext, type SecureContext } from 'node:tls';
import { errorMessage, fail } from './errors.ts';

/** A PEM file, and the option that names it. */
export interface PemFile {
  path: string;
  field: string;
}

/** Files of one side of TLS connections; null where none is configured. */
export interface TlsPaths {
  cert: PemFile | null;
  key: PemFile | null;
  ca: PemFile | null;
}

/** What the files held when they were last whole. */
export interface TlsMaterial {
  cert: Buffer | null;
  key: Buffer | null;
  ca: Buffer | null;
  context: SecureContext;
}

function readPem(file: PemFile | null): Buffer | null {
  if (file === null) return null;
  try {
    return readFileSync(file.path);
  } catch (err) {
    const message = `${file.path}: cannot be read: ${errorMessage(err)}`;
    throw fail('config_invalid', message, { field: file.field, cause: err });
  }
}

function same(a: Buffer | null, b: Buffer | null): boolean {
  return a === null || b === null ? a === b : a.equals(b);
}

/**
 * Certificate, key and authority from files that are replaced while the process runs, as cert-manager and Kubernetes do.
 * What cannot be used, because a file is being written or does not fit the others, changes nothing.
 */
export class TlsFiles {
  readonly #paths: TlsPaths;
  #material: TlsMaterial;
  #problem: string | null = null;

  /** Throws `config_invalid`, naming the option, for files that cannot be read or do not fit each other. */
  constructor(paths: TlsPaths) {
    this.#paths = paths;
    this.#material = this.#read(null);
  }

  /** Why the files are not used as they are; null when they are. */
  get problem(): string | null {
    return this.#problem;
  }

  /** What the files hold, or held when they were last whole; the same object for as long as nothing has changed. */
  current(): TlsMaterial {
    try {
      this.#material = this.#read(this.#material);
      this.#problem = null;
    } catch (err) {
      this.#problem = errorMessage(err);
    }
    return this.#material;
  }

  #read(before: TlsMaterial | null): TlsMaterial {
    const [cert, key, ca] = [readPem(this.#paths.cert), readPem(this.#paths.key), readPem(this.#paths.ca)];
    if (before !== null && same(cert, before.cert) && same(key, before.key) && same(ca, before.ca)) return before;
    try {
      const present = Object.entries({ cert, key, ca }).filter(([, pem]) => pem !== null);
      return { cert, key, ca, context: createSecureContext(Object.fromEntries(present) as Record<string, Buffer>) };
    } catch (err) {
      const field = this.#paths.cert?.field ?? this.#paths.ca?.field ?? null;
      throw fail('config_invalid', `the TLS files cannot be used: ${errorMessage(err)}`, { field, cause: err });
    }
  }
}
