import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A request that a server got. */
export interface SeenRequest {
  /** Which server: the hub's own or the CDN that large files are redirected to. */
  host: 'hub' | 'cdn';
  path: string;
  range: string | null;
  authorization: string | null;
}

/** Trouble that answers may have; a test sets it and changes it between requests. */
export interface HubFaults {
  /** Statuses to answer next, whatever is asked, with these headers. */
  statuses: { status: number; headers?: Record<string, string> }[];
  /** Ends the connection of a file after this many bytes of a body, as often as `times` says. */
  cut: { path: string; afterBytes: number; times: number } | null;
  /** Ends the body early but in order, with a Content-Length that fits. */
  truncate: { path: string; bytes: number; times: number } | null;
  /** Sends other bytes than the listing promises, as often as `times` says. */
  corrupt: { path: string; times: number } | null;
  /** Sends nothing after the headers of this file until the client gives up, as often as `times` says. */
  stall: { path: string; times: number } | null;
  /** Sends this many bytes of a body and then nothing, for as long as it is set. */
  hold: { path: string; afterBytes: number } | null;
  /** Answers 200 with the whole file whatever range is asked for. */
  ignoreRanges: boolean;
}

export interface FakeRepo {
  repo: string;
  files: Map<string, Buffer>;
  /** Branches and tags. */
  refs: Map<string, string>;
  /** Files that are stored as large ones, by path. */
  isLarge: (path: string, bytes: Buffer) => boolean;
}

/** A local server that speaks the part of the hub's API that a pull uses, and a CDN on another port. */
export class HubServer {
  readonly seen: SeenRequest[] = [];
  readonly faults: HubFaults = {
    statuses: [],
    cut: null,
    truncate: null,
    corrupt: null,
    stall: null,
    hold: null,
    ignoreRanges: false,
  };
  /** Only this token is let in; null lets everybody in. */
  requiredToken: string | null = null;
  /** Entries of a listing's page. */
  pageSize = 3;
  /** Entries that a listing has besides the files. */
  extraEntries: unknown[] = [];
  readonly #repos = new Map<string, FakeRepo>();
  readonly #hub: Server;
  readonly #cdn: Server;

  constructor() {
    this.#hub = createServer((request, response) => this.#answer('hub', request, response));
    this.#cdn = createServer((request, response) => this.#answer('cdn', request, response));
  }

  async start(): Promise<void> {
    for (const server of [this.#hub, this.#cdn]) {
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
    }
  }

  async stop(): Promise<void> {
    for (const server of [this.#hub, this.#cdn]) {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    }
  }

  get url(): string {
    return addressOf(this.#hub);
  }

  /** Adds a repository; files of 1 KiB and more are large ones. */
  add(repo: string, files: Record<string, Buffer>, refs: Record<string, string> = {}): FakeRepo {
    const contents = new Map(Object.entries(files));
    const hash = createHash('sha1').update(repo);
    for (const [path, bytes] of contents) hash.update(path).update(bytes);
    const commit = hash.digest('hex');
    const entry: FakeRepo = {
      repo,
      files: contents,
      refs: new Map(Object.entries({ main: commit, ...refs })),
      isLarge: (_path, bytes) => bytes.length >= 1024,
    };
    this.#repos.set(repo, entry);
    return entry;
  }

  /** Paths of files that were asked for, in order, with redirects counted once. */
  filesAsked(): string[] {
    return this.seen.flatMap(({ host, path }) =>
      host === 'hub' ? (/\/resolve\/[^/]+\/(.*)$/.exec(path)?.[1] ?? []) : [],
    );
  }

  #answer(host: 'hub' | 'cdn', request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', 'http://hub');
    const { range, authorization } = request.headers;
    this.seen.push({ host, path: url.pathname, range: range ?? null, authorization: authorization ?? null });
    const forced = this.faults.statuses.shift();
    if (forced !== undefined) return void response.writeHead(forced.status, forced.headers).end('trouble');
    if (host === 'cdn') return this.#cdnFile(url, request, response);
    if (this.requiredToken !== null && authorization !== `Bearer ${this.requiredToken}`) {
      return refuse(
        response,
        authorization === undefined ? 401 : 403,
        'GatedRepo',
        'Access to this model is restricted.',
      );
    }
    const api = /^\/api\/models\/(.+?)\/(revision|tree)\/([^/]+)$/.exec(url.pathname);
    if (api !== null) return this.#api(api, url, response);
    const file = /^\/(.+?)\/resolve\/([^/]+)\/(.+)$/.exec(url.pathname);
    if (file !== null) return this.#resolve(file, request, response);
    refuse(response, 404, 'EntryNotFound', 'no such route');
  }

  #api([, name = '', kind, revision = '']: string[], url: URL, response: ServerResponse): void {
    const repo = this.#repos.get(name);
    if (repo === undefined) return refuse(response, 404, 'RepoNotFound', 'Repository not found');
    const commit = commitOf(repo, decodeURIComponent(revision));
    if (commit === null) return refuse(response, 404, 'RevisionNotFound', 'Invalid rev id');
    if (kind === 'revision') return json(response, { id: name, sha: commit, siblings: [] });
    const entries = [...listing(repo), ...this.extraEntries];
    const from = Number(url.searchParams.get('cursor') ?? 0);
    const headers: Record<string, string> = {};
    if (from + this.pageSize < entries.length) {
      const next = new URL(`${this.url}${url.pathname}`);
      next.searchParams.set('recursive', 'true');
      next.searchParams.set('cursor', String(from + this.pageSize));
      headers['link'] = `<${next.href}>; rel="next"`;
    }
    json(response, entries.slice(from, from + this.pageSize), headers);
  }

  #resolve(
    [, name = '', revision = '', encoded = '']: string[],
    request: IncomingMessage,
    response: ServerResponse,
  ): void {
    const repo = this.#repos.get(name);
    const path = decodeURIComponent(encoded);
    const bytes = repo?.files.get(path);
    if (repo === undefined || bytes === undefined || commitOf(repo, revision) === null) {
      return refuse(response, 404, 'EntryNotFound', 'Entry not found');
    }
    if (!repo.isLarge(path, bytes)) return this.#send(path, bytes, request, response);
    const target = new URL(`/blobs/${encodeURIComponent(name)}/${encoded}?signature=secret`, addressOf(this.#cdn));
    response.writeHead(302, { location: target.href, 'x-linked-etag': `"${sha256(bytes)}"` }).end();
  }

  #cdnFile(url: URL, request: IncomingMessage, response: ServerResponse): void {
    const [, name = '', encoded = ''] = /^\/blobs\/([^/]+)\/(.+)$/.exec(url.pathname) ?? [];
    const path = decodeURIComponent(encoded);
    const bytes = this.#repos.get(decodeURIComponent(name))?.files.get(path);
    if (bytes === undefined) return refuse(response, 404, 'EntryNotFound', 'Entry not found');
    this.#send(path, bytes, request, response);
  }

  #send(path: string, bytes: Buffer, request: IncomingMessage, response: ServerResponse): void {
    const range = this.faults.ignoreRanges ? null : /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
    const first = Number(range?.[1] ?? 0);
    const last = range?.[2] ? Math.min(Number(range[2]), bytes.length - 1) : bytes.length - 1;
    if (range !== null && first >= bytes.length) {
      return void response.writeHead(416, { 'content-range': `bytes */${bytes.length}` }).end();
    }
    let body = this.#spoiled(path, bytes).subarray(first, last + 1);
    const { truncate, stall } = this.faults;
    if (isFor(truncate, path)) body = body.subarray(0, truncate.bytes);
    const headers: Record<string, string | number> = { 'content-length': body.length, 'accept-ranges': 'bytes' };
    if (range !== null) headers['content-range'] = `bytes ${first}-${last}/${bytes.length}`;
    response.writeHead(range === null ? 200 : 206, headers);
    if (isFor(stall, path)) response.flushHeaders();
    else this.#write(path, body, response);
  }

  #spoiled(path: string, bytes: Buffer): Buffer {
    if (!isFor(this.faults.corrupt, path)) return bytes;
    const wrong = Buffer.from(bytes);
    wrong[wrong.length - 1] = (wrong.at(-1) ?? 0) ^ 1;
    return wrong;
  }

  #write(path: string, body: Buffer, response: ServerResponse): void {
    const { cut, hold } = this.faults;
    const cutAt = isFor(cut, path) ? cut.afterBytes : body.length;
    const held = hold !== null && hold.path === path;
    const end = Math.min(held ? hold.afterBytes : cutAt, body.length);
    const step = 64 << 10;
    const next = (at: number): void => {
      if (response.destroyed) return;
      if (at >= end) {
        if (end === body.length) response.end();
        else if (!held) response.destroy();
        return;
      }
      response.write(body.subarray(at, Math.min(at + step, end)), () => {
        setImmediate(next, at + step);
      });
    };
    next(0);
  }
}

/** True when the fault is for this path, and counts it. */
function isFor<T extends { path: string; times: number }>(fault: T | null, path: string): fault is T {
  if (fault === null || fault.path !== path || fault.times === 0) return false;
  fault.times -= 1;
  return true;
}

function addressOf(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function commitOf(repo: FakeRepo, revision: string): string | null {
  const known = repo.refs.get(revision);
  if (known !== undefined) return known;
  return [...repo.refs.values()].includes(revision) ? revision : null;
}

function listing(repo: FakeRepo): unknown[] {
  return [...repo.files].map(([path, bytes]) => {
    const entry = { type: 'file', path, size: bytes.length };
    if (!repo.isLarge(path, bytes)) return { ...entry, oid: gitBlob(bytes) };
    const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256(bytes)}\nsize ${bytes.length}\n`;
    const lfs = { oid: sha256(bytes), size: bytes.length, pointerSize: pointer.length };
    return { ...entry, oid: gitBlob(Buffer.from(pointer)), lfs };
  });
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function gitBlob(bytes: Buffer): string {
  return createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
}

function json(response: ServerResponse, value: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));
}

function refuse(response: ServerResponse, status: number, code: string, message: string): void {
  response.writeHead(status, { 'x-error-code': code, 'x-error-message': message }).end('<html>refused</html>');
}
