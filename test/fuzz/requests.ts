import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib';
import type { ApiDescription, Operation, Parameter } from './api-description.ts';
import { brokenForm, rightForm } from './forms.ts';
import { nearlyRight } from './mutations.ts';
import { Random } from './random.ts';
import { rawRequest } from './raw-requests.ts';
import { CONSTRAINTS, MODEL, REAL_MODEL } from './samples.ts';
import { anyText, junk, ODD_TEXTS } from './texts.ts';
import { SchemaValues } from './values.ts';

/** What is done to a request that would be right. */
const KINDS = { right: 40, near: 28, broken: 6, type: 6, method: 3, headers: 6, query: 4, path: 6, raw: 3 };
export type Kind = keyof typeof KINDS;
/** How many completions go to the real router. */
const REAL_SHARE = 0.12;

/** A request as it is sent. */
export interface FuzzRequest {
  /** The operation that it was made for. */
  operation: string;
  kind: Kind;
  method: string;
  /** Path and query, as they stand in the request line; '' where the bytes are given. */
  target: string;
  headers: [name: string, value: string][];
  body: Buffer | null;
  /** All bytes of the connection, instead of all else. */
  raw: Buffer | null;
}

/** Bodies that are no JSON, or JSON that only a parser can be wrong about. */
const BROKEN_BODIES: readonly (string | Buffer)[] = [
  '',
  ' ',
  '{',
  'null',
  '"text"',
  '[]',
  '5',
  `{"model":"${MODEL}",}`,
  `{"model":"${MODEL}","model":5}`,
  `{"__proto__":{"model":"${MODEL}"}}`,
  '{"constructor":{"prototype":{"x":1}}}',
  '{"\\u005f_proto__":1}',
  `\ufeff{"model":"${MODEL}"}`,
  `{"model":"${MODEL}","max_tokens":1e999}`,
  `{"model":"${MODEL}","seed":123456789012345678901234567890}`,
  `{"model":"${MODEL}","prompt":"\\ud800","input":"\\udc00"}`,
  `{"messages":${'['.repeat(10_000)}${']'.repeat(10_000)}}`,
  `${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}`,
  `{"model":"${MODEL}","prompt":[${'5,'.repeat(100_000)}5]}`,
  `{"model":"${MODEL}","messages":[${'0,'.repeat(300_000)}0]}`,
  `"${'x'.repeat(9_000_000)}"`,
  Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]),
  Buffer.from(`{"model":"${MODEL}"}`, 'utf16le'),
];

const TYPES = [
  'text/plain',
  'application/xml',
  'application/x-www-form-urlencoded',
  'application/json; charset=utf-16',
  'application/json;charset="latin1"',
  'application/json; charset=utf-8',
  'application/vnd.api+json',
  'multipart/form-data',
  'multipart/form-data; boundary=x',
  ';;',
  '',
  'application/json, text/plain',
  `application/json; ${'x'.repeat(5000)}=y`,
];
const CODERS: Readonly<Record<string, (body: Buffer) => Buffer>> = {
  gzip: (body) => gzipSync(body),
  br: (body) => brotliCompressSync(body),
  deflate: (body) => deflateSync(body),
  zstd: (body) => body,
  'gzip, gzip': (body) => gzipSync(gzipSync(body)),
  identity: (body) => body,
  '': (body) => body,
};
const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS', 'TRACE', 'PROPFIND', 'QUERY'];

/** Header values that a client may send: bytes, but for line ends and NUL. */
const HEADER_VALUES = [
  'a',
  'req_1',
  'x'.repeat(300),
  'x'.repeat(4000),
  'a b',
  'ä',
  '"',
  '<script>',
  '${x}',
  '1, 2',
  '-1',
  '',
  '\t',
];
const HEADERS = [
  'x-request-id',
  'traceparent',
  'tracestate',
  'x-api-key',
  'authorization',
  'anthropic-version',
  'anthropic-beta',
  'accept',
  'accept-encoding',
  'origin',
  'cookie',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-guildhall-tenant',
  'idempotency-key',
  'range',
  'if-none-match',
  'expect',
  'x-http-method-override',
  'last-event-id',
];
const SEGMENTS = [
  '..',
  '.',
  '%2e%2e',
  '%2F',
  '..%2f..%2fetc%2fpasswd',
  '%00',
  '%ff',
  '%',
  '%zz',
  'a/b',
  '//',
  ';',
  '..;',
  '*',
  ':id',
  '{id}',
  '%f0%9f%99%82',
  'x'.repeat(511),
  'x'.repeat(600),
  '__proto__',
  'constructor',
  '%0d%0ax:%20y',
  '~',
  '$',
  '\\',
  'NaN',
  '-1',
];

/** Makes the requests of a seed, each for itself. */
export class Requests {
  readonly #values: SchemaValues;
  readonly #ids: () => readonly string[];
  readonly #turns: readonly Operation[];

  /** @param ids of things that may be there: files, batches, responses. */
  constructor(api: ApiDescription, ids: () => readonly string[]) {
    this.#ids = ids;
    this.#values = new SchemaValues(api, ids);
    this.#turns = api.operations.flatMap((operation) => Array.from({ length: turnsOf(operation) }, () => operation));
  }

  /** Request `index` of a seed: the same one each time, but for the ids of what is there. */
  make(seed: number, index: number): FuzzRequest {
    const random = Random.of(seed, index);
    const operation = this.#turns[index % this.#turns.length] as Operation;
    return this.#request(random, operation, random.weighted(KINDS));
  }

  #request(random: Random, operation: Operation, kind: Kind): FuzzRequest {
    const { name, method } = operation;
    const headers: [string, string][] = [];
    const request = { operation: name, kind, method, target: this.#target(random, operation, kind), headers };
    if (kind === 'raw') return { ...request, target: '', body: null, raw: rawRequest(random) };
    const form = takesForm(operation)
      ? kind === 'right' || random.chance(0.3)
        ? rightForm(random, operation.path)
        : brokenForm(random, operation.path)
      : null;
    const body = form?.body ?? this.#body(random, operation, kind);
    if (body !== null) headers.push(['content-type', form?.contentType ?? 'application/json']);
    if (kind === 'headers') headers.push(...random.list(1, 3, () => oddHeader(random)));
    if (kind === 'method') request.method = random.pick(METHODS);
    const sent = { ...request, body, raw: null };
    return kind === 'type' ? ofOddType(random, sent) : sent;
  }

  #body(random: Random, { method, path, body: schema }: Operation, kind: Kind): Buffer | null {
    if (method === 'GET' && kind !== 'broken') return null;
    if (kind === 'broken') {
      const broken = random.chance(0.8) ? random.pick(BROKEN_BODIES) : JSON.stringify(junk(random));
      return Buffer.from(broken as string);
    }
    if (schema === null) return random.chance(0.7) ? null : Buffer.from('{}');
    const value = this.#values.make(random, schema, path);
    if (random.chance(REAL_SHARE)) forRealRouter(random, path, value);
    if (path === '/v1/responses' && random.chance(0.4))
      Object.assign(value as object, { background: true, store: true });
    const sent = kind === 'near' ? nearlyRight(random, value) : value;
    return Buffer.from(JSON.stringify(sent) ?? '');
  }

  #target(random: Random, { path, parameters }: Operation, kind: Kind): string {
    const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => {
      if (kind === 'path') return random.pick(SEGMENTS);
      if (kind !== 'right' && random.chance(0.3)) return percentEncoded(anyText(random));
      const ids = [...this.#ids(), ...(name === 'model' ? [MODEL, REAL_MODEL] : [])];
      const fitting = ids.filter((id) => fits(name, id));
      return fitting.length === 0 ? 'nothing' : random.pick(fitting);
    });
    const tricked = kind === 'path' && random.chance(0.3) ? pathTrick(random, filled) : filled;
    const inQuery = parameters.filter((parameter) => parameter.in === 'query');
    return `${tricked}${this.#query(random, inQuery, kind)}`;
  }

  #query(random: Random, parameters: readonly Parameter[], kind: Kind): string {
    const right = random.some(parameters, random.below(3)).map(({ name, schema }): [string, string] => {
      const value = this.#values.make(random, schema, 'query', name);
      return [
        name,
        name === 'after'
          ? random.pick([...this.#ids(), 'x'])
          : typeof value === 'string'
            ? value
            : JSON.stringify(value),
      ];
    });
    if (kind !== 'query') return asQuery(right);
    const names = [...parameters.map(({ name }) => name), '__proto__', 'a[b][c]', 'limit', ''];
    const odd = random.list(1, 4, (): [string, string] => [random.pick(names), anyText(random).slice(0, 500)]);
    const tail = random.pick(['', '&', '&&&=', '?', '&%zz=%', '&a', '#x', `&x=${'y'.repeat(3000)}`]);
    return `${asQuery([...right, ...odd])}${tail}`;
  }
}

/** Operations with a body have more to get wrong, and those on a thing need one that is there. */
function turnsOf(operation: Operation): number {
  if (operation.body !== null) return 4;
  return takesForm(operation) ? 4 : operation.path.includes('{') ? 2 : 1;
}

function takesForm({ method, path }: Operation): boolean {
  return method === 'POST' && (path === '/v1/files' || path.endsWith('/parts'));
}

const PREFIXES: Record<string, string> = { response_id: 'resp_', batch_id: 'batch_', upload_id: 'upload_' };

/** Whether an id is of the kind that a parameter names. */
function fits(name: string, id: string): boolean {
  if (name === 'model') return id.startsWith('tiny');
  return id.startsWith(PREFIXES[name] ?? 'file-');
}

function asQuery(pairs: readonly [string, string][]): string {
  if (pairs.length === 0) return '';
  return `?${pairs.map((pair) => pair.map(percentEncoded).join('=')).join('&')}`;
}

function percentEncoded(text: string): string {
  return encodeURIComponent(text.toWellFormed()).replaceAll('.', '%2E');
}

function pathTrick(random: Random, path: string): string {
  const tricks = [
    `/${path}`,
    `${path}/`,
    path.toUpperCase(),
    `/x/..${path}`,
    `${path};a=b`,
    path.replaceAll('/', '%2F'),
    path.replace('v1', 'v%31'),
    `${path}%00`,
    `/.${path}`,
    path.replaceAll('/', '//'),
  ];
  return random.pick(tricks);
}

function oddHeader(random: Random): [string, string] {
  // What a header can hold of a text.
  const text = random
    .pick(ODD_TEXTS)
    .replace(/[^\t\x20-\x7e\x80-\xff]/g, '')
    .slice(0, 2000);
  return [random.pick(HEADERS), random.chance(0.6) ? random.pick(HEADER_VALUES) : text];
}

/** A body that says it is something else than it is, or is something else. */
function ofOddType(random: Random, request: FuzzRequest): FuzzRequest {
  const body = request.body ?? Buffer.from('{}');
  if (random.chance(0.5)) {
    const headers: [string, string][] = [['content-type', random.pick(TYPES)]];
    return { ...request, body, headers };
  }
  const coding = random.pick(Object.keys(CODERS));
  const coded = CODERS[coding]?.(body) ?? body;
  return { ...request, body: coded, headers: [...request.headers, ['content-encoding', coding]] };
}

/** Length of an answer, by path. */
const LENGTH_FIELDS: Readonly<Record<string, string>> = {
  '/v1/chat/completions': 'max_completion_tokens',
  '/v1/completions': 'max_tokens',
  '/v1/responses': 'max_output_tokens',
  '/v1/messages': 'max_tokens',
};
const COSTLY = ['best_of', 'prompt_logprobs'];

/** Has a body go to the real router, which compiles what its answer must match and computes it: few tokens, then. */
function forRealRouter(random: Random, path: string, body: unknown): void {
  const field = LENGTH_FIELDS[path];
  if (field === undefined || typeof body !== 'object' || body === null) return;
  for (const name of COSTLY) Reflect.deleteProperty(body, name);
  Object.assign(body, { model: REAL_MODEL, [field]: random.pick([16, 17, 24]), ...('n' in body ? { n: 2 } : {}) });
  if (path.endsWith('/completions') && random.chance(0.6))
    Object.assign(body, structuredClone(random.pick(CONSTRAINTS)));
}
