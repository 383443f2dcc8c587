import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A request that the server got. */
export interface SeenS3Request {
  method: string;
  path: string;
  range: string | null;
}

/**
 * A local server that speaks the part of S3 that is used here: listings in pages, objects, ranges, uploads in parts; path style,
 * signed requests.
 */
export class S3Server {
  readonly seen: SeenS3Request[] = [];
  /** Access key that requests must be signed with. */
  readonly accessKey = 'TESTKEY';
  /** Objects of a page of a listing. */
  pageSize = 2;
  /** Statuses to answer next, whatever is asked. */
  readonly statuses: number[] = [];
  /** Ends the connection of this object after so many bytes, once. */
  cut: { key: string; afterBytes: number } | null = null;
  readonly #objects = new Map<string, Buffer>();
  /** Parts of uploads that are neither complete nor aborted, by id. */
  readonly uploads = new Map<string, Map<number, Buffer>>();
  #made = 0;
  readonly #server: Server = createServer((request, response) => void this.#answer(request, response));

  async start(): Promise<void> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Environment of a client, as AWS tools read it. */
  get env(): Record<string, string> {
    const keys = { AWS_ACCESS_KEY_ID: this.accessKey, AWS_SECRET_ACCESS_KEY: 'secret' };
    return { ...keys, AWS_ENDPOINT_URL_S3: this.url, AWS_REGION: 'eu-test-1', AWS_EC2_METADATA_DISABLED: 'true' };
  }

  put(bucket: string, key: string, bytes: Buffer): void {
    this.#objects.set(`${bucket}/${key}`, bytes);
  }

  /** Names of all objects, with their bucket. */
  get names(): string[] {
    return [...this.#objects.keys()].toSorted();
  }

  /** An object's bytes. */
  bytes(name: string): Buffer | undefined {
    return this.#objects.get(name);
  }

  /** Puts files below a prefix, with their SHA256SUMS; returns its hash. */
  putModel(bucket: string, prefix: string, files: Record<string, Buffer>): string {
    const hash = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
    for (const [path, bytes] of Object.entries(files)) this.put(bucket, `${prefix}${path}`, bytes);
    const sums = Buffer.from(
      Object.entries(files)
        .map(([path, bytes]) => `${hash(bytes)}  ${path}\n`)
        .join(''),
    );
    this.put(bucket, `${prefix}SHA256SUMS`, sums);
    return hash(sums);
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '' } = request;
    const url = new URL(request.url ?? '/', 'http://s3');
    const path = decodeURIComponent(url.pathname.slice(1));
    const range = request.headers.range ?? null;
    this.seen.push({ method, path: path + url.search, range });
    const refused = this.statuses.shift();
    if (refused !== undefined) return fails(response, refused, 'SlowDown');
    const signed = `AWS4-HMAC-SHA256 Credential=${this.accessKey}/`;
    const { authorization = '' } = request.headers;
    if (!authorization.startsWith(signed) || !/\/s3\/aws4_request.*Signature=[0-9a-f]{64}/.test(authorization))
      return fails(response, 403, 'AccessDenied');
    if (method !== 'GET') return this.#change(method, path, url.searchParams, await bodyOf(request), response);
    if (url.searchParams.get('list-type') === '2')
      return this.#list(path.replace(/\/$/, ''), url.searchParams, response);
    const bytes = this.#objects.get(path);
    if (bytes === undefined) return fails(response, 404, 'NoSuchKey');
    this.#send(path, bytes, range, response);
  }

  #change(method: string, path: string, query: URLSearchParams, body: Buffer, response: ServerResponse): void {
    const id = query.get('uploadId');
    const parts = id === null ? undefined : this.uploads.get(id);
    if (id !== null && parts === undefined) return fails(response, 404, 'NoSuchUpload');
    if (method === 'DELETE') {
      if (id === null) this.#objects.delete(path);
      else this.uploads.delete(id);
      return void response.writeHead(204).end();
    }
    if (query.has('uploads')) {
      const made = `upload-${++this.#made}`;
      this.uploads.set(made, new Map());
      return answers(
        response,
        `<InitiateMultipartUploadResult><UploadId>${made}</UploadId></InitiateMultipartUploadResult>`,
      );
    }
    if (method === 'PUT') {
      if (parts === undefined) this.#objects.set(path, body);
      else parts.set(Number(query.get('partNumber')), body);
      return void response.writeHead(200, { etag: etagOf(body) }).end();
    }
    if (id === null || parts === undefined) return fails(response, 400, 'InvalidRequest');
    return this.#complete(path, id, parts, body.toString(), response);
  }

  #complete(path: string, id: string, parts: Map<number, Buffer>, asked: string, response: ServerResponse): void {
    const listed = [...asked.matchAll(/<Part>(.*?)<\/Part>/gs)].map(([, part = '']) => {
      const bytes = parts.get(Number(/<PartNumber>(\d+)</.exec(part)?.[1]));
      const etag = /<ETag>(?:"|&quot;)([0-9a-f]+)(?:"|&quot;)</.exec(part)?.[1];
      return bytes !== undefined && etagOf(bytes) === `"${etag}"` ? bytes : null;
    });
    if (listed.length === 0 || listed.includes(null)) return fails(response, 400, 'InvalidPart');
    this.#objects.set(path, Buffer.concat(listed.filter((part) => part !== null)));
    this.uploads.delete(id);
    answers(response, '<CompleteMultipartUploadResult></CompleteMultipartUploadResult>');
  }

  #list(bucket: string, query: URLSearchParams, response: ServerResponse): void {
    const prefix = `${bucket}/${query.get('prefix') ?? ''}`;
    const keys = [...this.#objects.keys()].filter((key) => key.startsWith(prefix)).toSorted();
    const from = Number(query.get('continuation-token') ?? 0);
    const page = keys.slice(from, from + this.pageSize);
    const more = from + this.pageSize < keys.length;
    const contents = page.map((key) => {
      const size = this.#objects.get(key)?.length ?? 0;
      return `<Contents><Key>${key.slice(bucket.length + 1)}</Key><Size>${size}</Size></Contents>`;
    });
    const next = more ? `<NextContinuationToken>${from + this.pageSize}</NextContinuationToken>` : '';
    response
      .writeHead(200, { 'content-type': 'application/xml' })
      .end(`<ListBucketResult><IsTruncated>${more}</IsTruncated>${next}${contents.join('')}</ListBucketResult>`);
  }

  #send(key: string, bytes: Buffer, range: string | null, response: ServerResponse): void {
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range ?? '') ?? [];
    const begin = Number(first ?? 0);
    const end = last === undefined || last === '' ? bytes.length : Math.min(Number(last) + 1, bytes.length);
    const part = bytes.subarray(begin, end);
    const etag = { etag: etagOf(bytes) };
    const headers =
      range === null
        ? etag
        : {
            ...etag,
            'content-range': `bytes ${begin}-${end - 1}/${bytes.length}`,
          };
    response.writeHead(range === null ? 200 : 206, { 'content-length': part.length, ...headers });
    if (this.cut === null || this.cut.key !== key) return void response.end(part);
    const { afterBytes } = this.cut;
    this.cut = null;
    // What came is on the reader's disk by then, also on a machine with much to do.
    response.write(part.subarray(0, afterBytes), () => setTimeout(() => response.socket?.end(), 500));
  }
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

function etagOf(bytes: Buffer): string {
  return `"${createHash('md5').update(bytes).digest('hex')}"`;
}

function answers(response: ServerResponse, xml: string): void {
  response.writeHead(200, { 'content-type': 'application/xml' }).end(xml);
}

function fails(response: ServerResponse, status: number, code: string): void {
  response
    .writeHead(status, { 'content-type': 'application/xml' })
    .end(`<Error><Code>${code}</Code><Message>${code}</Message></Error>`);
}
