import { createHash } from 'node:crypto';
import type * as S3 from '@aws-sdk/client-s3';
import { errorMessage, fail, type GuildhallError } from '@guildhall/common';
import { refuseDoubles, type HubFile } from './hub-client.ts';
import { Retryable, withRetries, type OpenResponse } from './http.ts';
import type { S3Place } from './repo-spec.ts';
import { refuseAwkwardPath, refuseHostilePath } from './safe-path.ts';
import type { FileSource, RetryContext } from './source.ts';

/** Checksums of every file below a prefix, as `sha256sum` writes them: hash, two spaces, path. */
export const SUMS_NAME = 'SHA256SUMS';

const MAX_SUMS_BYTES = 16 << 20;
const MAX_PAGES = 1000;
const CONNECT_MS = 10_000;
const STALL_MS = 60_000;
const RETRIED_NAMES = /^(SlowDown|RequestTimeout|InternalError|ServiceUnavailable|TimeoutError|Throttl)/;
const DENIED_NAMES = /^(AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|CredentialsProviderError)/;

/**
 * A model below a prefix of an S3 bucket. Its revision is the hash of its SHA256SUMS, so that the one hash pins every file.
 * Region, endpoint and credentials come from where AWS's own tools take them; an endpoint of one's own is asked in path style.
 */
export class S3Source implements FileSource {
  readonly context: RetryContext;
  readonly #place: S3Place;
  readonly #client: S3.S3Client;
  readonly #sdk: typeof S3;
  #sums: { digest: string; files: Map<string, string> } | null = null;

  private constructor(sdk: typeof S3, place: S3Place, context: RetryContext, client: S3.S3Client) {
    this.#sdk = sdk;
    this.#place = place;
    this.context = context;
    this.#client = client;
  }

  static async open(place: S3Place, context: RetryContext, env: Record<string, string | undefined>): Promise<S3Source> {
    // Half a second of start-up that only this kind of pull has to pay.
    const sdk = await import('@aws-sdk/client-s3');
    const endpoint = env['AWS_ENDPOINT_URL_S3'] ?? env['AWS_ENDPOINT_URL'] ?? null;
    const region = env['AWS_REGION'] ?? env['AWS_DEFAULT_REGION'] ?? (endpoint === null ? null : 'us-east-1');
    const client = new sdk.S3Client({
      // Attempts are counted and told in one place, withRetries.
      maxAttempts: 1,
      requestHandler: { connectionTimeout: CONNECT_MS, socketTimeout: context.stallMs ?? STALL_MS },
      // Every file has a checksum of its own; servers other than AWS's often know no others.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      ...(region === null ? {} : { region }),
      ...(endpoint === null ? {} : { endpoint, forcePathStyle: true }),
    });
    return new S3Source(sdk, place, context, client);
  }

  async commitOf(): Promise<string> {
    return (await this.#readSums()).digest;
  }

  /** Throws `hub_invalid` for sums that name files which are not there, and where they have changed meanwhile. */
  async listFiles(commit: string, keep: (path: string) => boolean): Promise<HubFile[]> {
    const { digest, files } = await this.#readSums();
    if (digest !== commit) throw fail('hub_invalid', `${this.#place.url}: ${SUMS_NAME} has changed since`);
    const sizes = await this.#sizes();
    const found = [...files]
      .filter(([path]) => keep(path))
      .map(([path, sha256]) => {
        const size = sizes.get(path);
        if (size === undefined)
          throw fail('hub_invalid', `${this.#place.url}: ${SUMS_NAME} names ${path}, which is not there`);
        return { path, size, checksum: { algorithm: 'sha256' as const, digest: sha256 } };
      });
    refuseDoubles(found);
    return found;
  }

  async open(
    _commit: string,
    path: string,
    range: { begin: number; end: number | null } | null,
  ): Promise<OpenResponse> {
    const { begin, end } = range ?? { begin: 0, end: null };
    const whole = begin === 0 && end === null;
    const stop = new AbortController();
    const signal = AbortSignal.any([stop.signal, this.context.signal]);
    const Range = whole ? undefined : `bytes=${begin}-${end === null ? '' : end - 1}`;
    const answer = await this.#get(path, Range, signal);
    const headers = new Headers(answer.ContentRange === undefined ? {} : { 'content-range': answer.ContentRange });
    const status = answer.$metadata.httpStatusCode ?? (whole ? 200 : 206);
    return { status, headers, chunks: chunksOf(answer), close: () => stop.abort() };
  }

  async #readSums(): Promise<{ digest: string; files: Map<string, string> }> {
    this.#sums ??= await withRetries(this.context, `${this.#place.url}/${SUMS_NAME}`, async () => {
      const answer = await this.#get(SUMS_NAME, undefined, this.context.signal);
      const chunks: Uint8Array[] = [];
      let bytes = 0;
      for await (const chunk of chunksOf(answer)) {
        chunks.push(chunk);
        if ((bytes += chunk.byteLength) > MAX_SUMS_BYTES) throw fail('hub_invalid', `${SUMS_NAME} is too long`);
      }
      const content = Buffer.concat(chunks);
      return { digest: createHash('sha256').update(content).digest('hex'), files: parseSums(content.toString('utf8')) };
    });
    return this.#sums;
  }

  async #sizes(): Promise<Map<string, number>> {
    const { bucket, prefix, url } = this.#place;
    const sizes = new Map<string, number>();
    let token: string | undefined;
    for (let page = 0; page < MAX_PAGES; page++) {
      const answer = await withRetries(this.context, url, () => {
        const ContinuationToken = token;
        const command = new this.#sdk.ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, ContinuationToken });
        return this.#client
          .send(command, { abortSignal: this.context.signal })
          .catch((err: unknown) => this.#refuse(err, url));
      });
      for (const { Key = '', Size = 0 } of answer.Contents ?? []) sizes.set(Key.slice(prefix.length), Size);
      token = answer.NextContinuationToken;
      if (token === undefined) return sizes;
    }
    throw fail('hub_invalid', `${url}: the listing is endless`);
  }

  async #get(path: string, Range: string | undefined, abortSignal: AbortSignal): Promise<S3.GetObjectCommandOutput> {
    const { bucket, prefix, url } = this.#place;
    const command = new this.#sdk.GetObjectCommand({ Bucket: bucket, Key: prefix + path, Range });
    return this.#client.send(command, { abortSignal }).catch((err: unknown) => this.#refuse(err, `${url}/${path}`));
  }

  #refuse(err: unknown, where: string): never {
    throw failureOf(err, where);
  }
}

/** An error of the SDK as one of ours, or as a reason to try again. */
function failureOf(err: unknown, where: string): GuildhallError | Retryable | Error {
  if (!(err instanceof Error) || err.name === 'AbortError') return err as Error;
  const status = (err as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode ?? null;
  if (err.name === 'NoSuchKey' || err.name === 'NoSuchBucket' || status === 404) {
    const hint = where.endsWith(SUMS_NAME) ? `; make it with: sha256sum $(find * -type f) > ${SUMS_NAME}` : '';
    return fail('hub_not_found', `${where}: not found${hint}`, { cause: err });
  }
  if (DENIED_NAMES.test(err.name) || status === 401 || status === 403)
    return fail('hub_denied', `${where}: ${err.name}: ${errorMessage(err)}`, { cause: err });
  if (status === null || status >= 500 || status === 429 || RETRIED_NAMES.test(err.name))
    return new Retryable(`${err.name}: ${errorMessage(err)}`);
  return fail('hub_invalid', `${where} answered ${status}: ${err.name}`, { cause: err });
}

/** Lines of `sha256sum`; `*` before a path says binary. Throws `hub_invalid`. */
export function parseSums(text: string): Map<string, string> {
  const files = new Map<string, string>();
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    const [, digest, name] = /^([0-9a-f]{64}) [ *](.+?)\r?$/.exec(line) ?? [];
    if (digest === undefined || name === undefined)
      throw fail('hub_invalid', `${SUMS_NAME}, line ${index + 1}: expected a sha256 and a path`);
    const path = name.replace(/^\.\//, '');
    refuseHostilePath(path);
    if (path === SUMS_NAME) continue;
    refuseAwkwardPath(path);
    files.set(path, digest);
  }
  return files;
}

async function* chunksOf(answer: S3.GetObjectCommandOutput): AsyncGenerator<Uint8Array> {
  try {
    yield* answer.Body as unknown as AsyncIterable<Uint8Array>;
  } catch (err) {
    throw new Retryable(`the connection broke: ${errorMessage(err)}`);
  }
}
