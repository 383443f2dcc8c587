import { fail } from '@guildhall/common';
import { get, withRetries, type HttpContext, type OpenResponse } from './http.ts';
import { isCommit } from './repo-spec.ts';
import type { FileSource } from './source.ts';
import { refuseAwkwardPath, refuseHostilePath } from './safe-path.ts';

/** A file of a repository. */
export interface HubFile {
  /** Path in the repository, checked by safe-path.ts. */
  path: string;
  /** Bytes. */
  size: number;
  /** What its contents hash to: sha256 of a large file, git's blob hash of a small one. */
  checksum: { algorithm: 'sha256' | 'git-sha1'; digest: string };
}

const MAX_JSON_BYTES = 64 * 1024 * 1024;
const MAX_PAGES = 1000;
const MAX_FILES = 100_000;

/** The part of the hub's API that a pull needs. */
export class HubClient implements FileSource {
  readonly context: HttpContext;
  readonly repo: string;

  constructor(context: HttpContext, repo: string) {
    this.context = context;
    this.repo = repo;
  }

  /**
   * Commit that a branch, a tag or a hash stands for now.
   * @throws hub_not_found, hub_denied, hub_unavailable, hub_invalid.
   */
  async commitOf(revision: string): Promise<string> {
    const url = this.#url(`api/models/${this.repo}/revision/${encodeURIComponent(revision)}`);
    const { value } = await this.#json(url);
    const sha: unknown = (value as { sha?: unknown } | null)?.sha;
    if (typeof sha === 'string' && isCommit(sha)) return sha;
    throw fail('hub_invalid', `${url.host}${url.pathname}: the answer names no commit`);
  }

  /**
   * Files of a commit, over however many pages. Errors as commitOf.
   * @param keep which paths are of interest; the names of others matter only where they are hostile.
   */
  async listFiles(commit: string, keep: (path: string) => boolean): Promise<HubFile[]> {
    const files: HubFile[] = [];
    let url: URL | null = this.#url(`api/models/${this.repo}/tree/${commit}?recursive=true`);
    for (let page = 0; url !== null; page++) {
      const { value, headers } = await this.#json(url);
      if (page >= MAX_PAGES || !Array.isArray(value) || files.length > MAX_FILES) {
        throw fail('hub_invalid', `${url.host}${url.pathname}: the listing is no list, or endless`);
      }
      for (const entry of value as unknown[]) {
        const file = readEntry(entry, keep);
        if (file !== null) files.push(file);
      }
      url = this.#nextPage(url, headers.get('link'));
    }
    refuseDoubles(files);
    return files;
  }

  /** Address of a file of a commit. */
  fileUrl(commit: string, path: string): URL {
    return this.#url(`${this.repo}/resolve/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`);
  }

  /** Bytes of a file: one attempt; `begin`..`end` (exclusive) where a part is wanted. Errors as http.ts `get`. */
  open(commit: string, path: string, range: { begin: number; end: number | null } | null): Promise<OpenResponse> {
    const { begin, end } = range ?? { begin: 0, end: null };
    const whole = begin === 0 && end === null;
    const headers = whole ? {} : { range: `bytes=${begin}-${end === null ? '' : end - 1}` };
    return get(this.context, this.fileUrl(commit, path), headers, whole ? [200] : [200, 206, 416]);
  }

  #url(path: string): URL {
    // A mirror may live below a path of its host.
    const base = this.context.endpoint.url;
    return new URL(path, base.href.endsWith('/') ? base : `${base.href}/`);
  }

  async #json(url: URL): Promise<{ value: unknown; headers: Headers }> {
    return withRetries(this.context, `${url.host}${url.pathname}`, async () => {
      const response = await get(this.context, url, { accept: 'application/json' });
      const chunks: Uint8Array[] = [];
      let bytes = 0;
      for await (const chunk of response.chunks) {
        chunks.push(chunk);
        if ((bytes += chunk.byteLength) > MAX_JSON_BYTES) throw fail('hub_invalid', `${url.pathname}: too long`);
      }
      try {
        return { value: JSON.parse(Buffer.concat(chunks).toString('utf8')) as unknown, headers: response.headers };
      } catch (err) {
        throw fail('hub_invalid', `${url.host}${url.pathname}: the answer is not JSON`, { cause: err });
      }
    });
  }

  /** The `rel="next"` link (RFC 8288), which has to stay at the endpoint. */
  #nextPage(current: URL, link: string | null): URL | null {
    for (const [, target, params] of (link ?? '').matchAll(/<([^>]*)>([^,]*)/g)) {
      if (!/;\s*rel="?next"?/.test(params ?? '')) continue;
      const next = URL.parse(target ?? '', current.href);
      if (next !== null && next.host === this.context.endpoint.url.host) {
        // Mirrors behind a proxy give links with the scheme of the inside.
        next.protocol = this.context.endpoint.url.protocol;
        return next;
      }
      throw fail('hub_invalid', `${current.pathname}: its next page is on another host`);
    }
    return null;
  }
}

function readEntry(entry: unknown, keep: (path: string) => boolean): HubFile | null {
  const { type, path, size, oid, lfs } = (entry ?? {}) as Record<string, unknown>;
  if (type !== 'file') return null;
  const large = (lfs ?? null) as { oid?: unknown; sha256?: unknown; size?: unknown } | null;
  const bytes = large === null ? size : (large.size ?? size);
  const digest = large === null ? oid : (large.oid ?? large.sha256);
  const algorithm = large === null ? 'git-sha1' : 'sha256';
  const pattern = large === null ? /^[0-9a-f]{40}$/ : /^[0-9a-f]{64}$/;
  if (typeof path !== 'string' || typeof bytes !== 'number' || !Number.isSafeInteger(bytes) || bytes < 0) {
    throw fail('hub_invalid', 'the listing has a file without a path or a size');
  }
  refuseHostilePath(path);
  if (!keep(path)) return null;
  refuseAwkwardPath(path);
  if (typeof digest !== 'string' || !pattern.test(digest)) {
    throw fail('hub_invalid', `the listing has no checksum of ${path}`);
  }
  return { path, size: bytes, checksum: { algorithm, digest } };
}

/** Two names that some file systems take for one would overwrite each other. */
export function refuseDoubles(files: readonly HubFile[]): void {
  const seen = new Map<string, string>();
  for (const { path } of files) {
    const key = path.normalize('NFC').toLowerCase();
    const other = seen.get(key);
    if (other !== undefined) throw fail('hub_invalid', `the listing has both ${other} and ${path}`);
    seen.set(key, path);
  }
}
