import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A request that the server got. */
export interface SeenS3Request {
  path: string;
  range: string | null;
}

/** A local server that speaks the part of S3 that a pull uses: listings in pages, objects, ranges; path style, signed requests. */
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
  readonly #server: Server = createServer((request, response) => this.#answer(request, response));

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

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', 'http://s3');
    const path = decodeURIComponent(url.pathname.slice(1));
    const range = request.headers.range ?? null;
    this.seen.push({ path: path + url.search, range });
    const refused = this.statuses.shift();
    if (refused !== undefined) return fails(response, refused, 'SlowDown');
    const signed = `AWS4-HMAC-SHA256 Credential=${this.accessKey}/`;
    const { authorization = '' } = request.headers;
    if (!authorization.startsWith(signed) || !/\/s3\/aws4_request.*Signature=[0-9a-f]{64}/.test(authorization))
      return fails(response, 403, 'AccessDenied');
    if (url.searchParams.get('list-type') === '2')
      return this.#list(path.replace(/\/$/, ''), url.searchParams, response);
    const bytes = this.#objects.get(path);
    if (bytes === undefined) return fails(response, 404, 'NoSuchKey');
    this.#send(path, bytes, range, response);
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
    const headers = range === null ? {} : { 'content-range': `bytes ${begin}-${end - 1}/${bytes.length}` };
    response.writeHead(range === null ? 200 : 206, { 'content-length': part.length, ...headers });
    if (this.cut === null || this.cut.key !== key) return void response.end(part);
    const { afterBytes } = this.cut;
    this.cut = null;
    // What came is on the reader's disk by then, also on a machine with much to do.
    response.write(part.subarray(0, afterBytes), () => setTimeout(() => response.socket?.end(), 500));
  }
}

function fails(response: ServerResponse, status: number, code: string): void {
  response
    .writeHead(status, { 'content-type': 'application/xml' })
    .end(`<Error><Code>${code}</Code><Message>${code}</Message></Error>`);
}
