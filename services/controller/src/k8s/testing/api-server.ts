import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Credentials } from '../api/credentials.ts';

interface Stored {
  metadata: { name: string; resourceVersion?: string; labels?: Record<string, string> } & Record<string, unknown>;
  [field: string]: unknown;
}

interface Change {
  version: number;
  collection: string;
  type: string;
  object: Stored;
}

interface Watcher {
  collection: string;
  matches: (object: Stored) => boolean;
  response: ServerResponse;
}

/** What a test can make the server do instead of answering; null for the usual answer. */
export type Fault = (
  request: IncomingMessage,
  url: URL,
) => { status: number; headers?: Record<string, string> } | 'hang' | null;

/**
 * A small HTTP server that speaks list and watch, preconditions and merge patches as an API server does, and that can be made to
 * misbehave in the ways of real ones. What a real API server does is tested against one (test/k8s).
 */
export class ApiServer {
  readonly #server: Server;
  readonly #collections = new Map<string, Map<string, Stored>>();
  readonly #watchers = new Set<Watcher>();
  #history: Change[] = [];
  #version = 100;
  /** Requests so far, `GET /path?watch=true` and so on. */
  readonly requests: string[] = [];
  readonly tokens: (string | undefined)[] = [];
  /** Asked before each request. */
  fault: Fault = () => null;
  /** Changes are not told to watchers while this is true. */
  silent = false;

  #onWatch: (response: ServerResponse) => void = () => undefined;

  private constructor() {
    this.#server = createServer((request, response) => void this.#answer(request, response));
  }

  static async start(): Promise<ApiServer> {
    const server = new ApiServer();
    server.#server.listen(0, '127.0.0.1');
    await once(server.#server, 'listening');
    return server;
  }

  get url(): URL {
    const bound = this.#server.address();
    return new URL(`http://127.0.0.1:${typeof bound === 'object' && bound !== null ? bound.port : 0}`);
  }

  get credentials(): Credentials {
    return {
      server: this.url,
      namespace: 'test',
      current: () => Promise.resolve({ headers: {}, tls: {} }),
      forget: () => undefined,
    };
  }

  onConnection(listener: () => void): void {
    this.#server.on('connection', listener);
  }

  /** Calls `listener` with the answer to each watch, to write to it. */
  onWatch(listener: (response: ServerResponse) => void): void {
    this.#onWatch = listener;
    for (const { response } of this.#watchers) listener(response);
  }

  get watches(): number {
    return this.#watchers.size;
  }

  count(pattern: RegExp): number {
    return this.requests.filter((request) => pattern.test(request)).length;
  }

  get(collection: string, name: string): Stored | undefined {
    return this.#collections.get(collection)?.get(name);
  }

  all(collection: string): Stored[] {
    return [...(this.#collections.get(collection)?.values() ?? [])];
  }

  /** Creates or replaces an object, as some other writer. */
  put(
    collection: string,
    object: Record<string, unknown> & { metadata: { name: string; [field: string]: unknown } },
  ): Stored {
    const before = this.get(collection, object.metadata.name);
    return this.#store(collection, structuredClone(object) as Stored, before === undefined ? 'ADDED' : 'MODIFIED');
  }

  delete(collection: string, name: string): void {
    const object = this.get(collection, name);
    if (object === undefined) return;
    this.#collections.get(collection)?.delete(name);
    this.#version += 1;
    object.metadata.resourceVersion = String(this.#version);
    this.#tell({ version: this.#version, collection, type: 'DELETED', object });
  }

  bookmark(): void {
    for (const { response } of this.#watchers) {
      const object = { metadata: { resourceVersion: String(this.#version) } };
      response.write(`${JSON.stringify({ type: 'BOOKMARK', object })}\n`);
    }
  }

  /** Ends the watches; `broken` cuts their connections, else they end as a server ends them. */
  endWatches(broken: boolean): void {
    for (const { response } of this.#watchers) {
      if (broken) response.destroy();
      else response.end();
    }
    this.#watchers.clear();
  }

  /** Forgets what was: watches from an older version get 410. */
  compact(): void {
    this.#history = [];
    this.#version += 1;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #store(collection: string, object: Stored, type: string): Stored {
    this.#version += 1;
    object.metadata.resourceVersion = String(this.#version);
    object.metadata['creationTimestamp'] ??= '2026-01-01T00:00:00Z';
    const all = this.#collections.get(collection) ?? new Map<string, Stored>();
    this.#collections.set(collection, all.set(object.metadata.name, object));
    this.#tell({ version: this.#version, collection, type, object: structuredClone(object) });
    return object;
  }

  #tell(change: Change): void {
    this.#history.push(change);
    if (this.silent) return;
    for (const watcher of this.#watchers) this.#send(watcher, change);
  }

  #send({ collection, matches, response }: Watcher, change: Change): void {
    if (change.collection !== collection || !matches(change.object)) return;
    response.write(`${JSON.stringify({ type: change.type, object: change.object })}\n`);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://x');
    this.requests.push(`${request.method} ${url.pathname}${url.searchParams.has('watch') ? '?watch' : ''}`);
    this.tokens.push(request.headers.authorization);
    const fault = this.fault(request, url);
    if (fault === 'hang') return;
    if (fault !== null) return fail(response, fault.status, '', fault.headers);
    const parts: Buffer[] = [];
    for await (const part of request as AsyncIterable<Buffer>) parts.push(part);
    const text = Buffer.concat(parts).toString();
    const body = text === '' ? null : (JSON.parse(text) as Stored);
    if (request.method === 'GET') return this.#get(url, response);
    this.#write(request.method ?? '', url, body as Stored, response);
  }

  #get(url: URL, response: ServerResponse): void {
    const matches = selector(url.searchParams.get('labelSelector') ?? '');
    const [collection, name, sub] = this.#locate(url.pathname);
    if (name !== null) {
      const object = this.get(collection, name);
      if (object === undefined) return fail(response, 404, 'NotFound');
      return reply(response, sub === 'scale' ? scaleOf(object) : object);
    }
    if (url.searchParams.has('watch')) return this.#watch(url, collection, matches, response);
    if (!this.#collections.has(collection)) this.#collections.set(collection, new Map());
    const items = this.all(collection).filter(matches);
    const from = Number(url.searchParams.get('continue') ?? 0);
    const limit = Number(url.searchParams.get('limit') ?? items.length);
    const rest = from + limit < items.length ? { continue: String(from + limit) } : {};
    reply(response, {
      metadata: { resourceVersion: String(this.#version), ...rest },
      items: items.slice(from, from + limit),
    });
  }

  #watch(url: URL, collection: string, matches: Watcher['matches'], response: ServerResponse): void {
    const version = Number(url.searchParams.get('resourceVersion'));
    const oldest = this.#history[0]?.version ?? this.#version + 1;
    response.writeHead(200, { 'content-type': 'application/json' }).flushHeaders();
    const watcher = { collection, matches, response };
    if (version < oldest - 1) {
      const object = { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version' };
      response.end(`${JSON.stringify({ type: 'ERROR', object })}\n`);
      return;
    }
    if (!this.silent) for (const change of this.#history) if (change.version > version) this.#send(watcher, change);
    this.#watchers.add(watcher);
    this.#onWatch(response);
    response.on('close', () => this.#watchers.delete(watcher));
  }

  #write(method: string, url: URL, body: Stored, response: ServerResponse): void {
    const [collection, named, sub] = this.#locate(url.pathname);
    const name = named ?? body.metadata.name;
    const before = this.get(collection, name);
    if (method === 'POST') {
      if (before !== undefined) return fail(response, 409, 'AlreadyExists');
      return reply(response, this.#store(collection, body, 'ADDED'));
    }
    if (before === undefined) return fail(response, 404, 'NotFound');
    const version = body.metadata?.resourceVersion;
    if (version !== undefined && version !== before.metadata.resourceVersion) return fail(response, 409, 'Conflict');
    if (sub === 'scale') {
      const replicas = (body['spec'] as { replicas: number }).replicas;
      const spec = { ...(before['spec'] as object), replicas };
      return reply(response, scaleOf(this.#store(collection, { ...before, spec }, 'MODIFIED')));
    }
    const next = method === 'PATCH' ? (merge(before, body) as Stored) : { ...body };
    next.metadata['creationTimestamp'] = before.metadata['creationTimestamp'];
    reply(response, this.#store(collection, next, 'MODIFIED'));
  }

  /** Collection, name and subresource of a path: collections are known by having a namespace before their plural. */
  #locate(path: string): [string, string | null, string | null] {
    const match = /^(.*\/namespaces\/[^/]+\/[^/]+)(?:\/([^/]+))?(?:\/([^/]+))?$/.exec(path);
    return [match?.[1] ?? path, match?.[2] ?? null, match?.[3] ?? null];
  }
}

function scaleOf(object: Stored): unknown {
  const { name, resourceVersion } = object.metadata;
  return {
    kind: 'Scale',
    metadata: { name, resourceVersion },
    spec: { replicas: (object['spec'] as { replicas: number }).replicas },
  };
}

function merge(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const result: Record<string, unknown> = { ...(target as object) };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = merge(result[key], value);
  }
  return result;
}

function selector(text: string): (object: Stored) => boolean {
  const terms = text === '' ? [] : text.split(/,(?![^(]*\))/);
  return ({ metadata: { labels = {} } }) =>
    terms.every((term) => {
      const among = /^(\S+) in \((.*)\)$/.exec(term);
      if (among !== null) return (among[2] ?? '').split(',').includes(labels[among[1] ?? ''] ?? '');
      const [key = '', value] = term.split('=');
      return labels[key] === value;
    });
}

function reply(response: ServerResponse, body: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

function fail(response: ServerResponse, status: number, reason: string, headers: Record<string, string> = {}): void {
  const body = { kind: 'Status', status: 'Failure', code: status, reason, message: reason || `status ${status}` };
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
}
