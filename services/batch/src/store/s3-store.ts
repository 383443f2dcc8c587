import type * as S3 from '@aws-sdk/client-s3';
import { type Clock, errorMessage, fail, type GuildhallError, isGuildhallError } from '@guildhall/common';
import { type BlobStore, limited } from './blob-store.ts';

/** Bytes of a part of an upload; S3 takes 10,000 parts of 5 MiB and more, so 80 GiB are the largest file. */
const PART_BYTES = 8 << 20;
/** Reads that end early go on where they stopped, so often in a row without a byte between. */
const READ_ATTEMPTS = 5;
const READ_PAUSE_MS = 500;
const CONNECT_MS = 10_000;
const STALL_MS = 60_000;
const REMOVALS = 8;

/** A bucket and what the names of all objects begin with: '' or something that ends in a slash. */
export interface S3Place {
  bucket: string;
  prefix: string;
}

/** Reads `s3://bucket/prefix`; null for anything else. */
export function s3Place(url: string): S3Place | null {
  const [, bucket, path = ''] = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*))?$/.exec(url) ?? [];
  if (bucket === undefined) return null;
  const prefix = path.replace(/^\/+|\/+$/g, '');
  return { bucket, prefix: prefix === '' ? '' : `${prefix}/` };
}

/**
 * Blobs as objects of a bucket. An object is there once its upload is complete and not before: a large one goes up in parts as its
 * bytes come, and a process that dies in the middle leaves parts that nobody sees, for a lifecycle rule of the bucket to remove.
 * Region, endpoint and credentials come from where AWS's own tools take them; an endpoint of one's own is asked in path style.
 */
export class S3Store implements BlobStore {
  readonly #sdk: typeof S3;
  readonly #client: S3.S3Client;
  readonly #place: S3Place;
  readonly #clock: Clock;
  readonly #partBytes: number;

  private constructor(sdk: typeof S3, client: S3.S3Client, place: S3Place, clock: Clock, partBytes: number) {
    this.#sdk = sdk;
    this.#client = client;
    this.#place = place;
    this.#clock = clock;
    this.#partBytes = partBytes;
  }

  static async open(
    place: S3Place,
    env: Readonly<Record<string, string | undefined>>,
    clock: Clock,
    partBytes = PART_BYTES,
  ): Promise<S3Store> {
    // Half a second of start-up that only services with such a store have to pay.
    const sdk = await import('@aws-sdk/client-s3');
    const endpoint = env['AWS_ENDPOINT_URL_S3'] ?? env['AWS_ENDPOINT_URL'] ?? null;
    const region = env['AWS_REGION'] ?? env['AWS_DEFAULT_REGION'] ?? (endpoint === null ? null : 'us-east-1');
    const client = new sdk.S3Client({
      maxAttempts: 4,
      requestHandler: { connectionTimeout: CONNECT_MS, socketTimeout: STALL_MS },
      // Servers other than AWS's often know no other checksums than those that a request must have.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      ...(region === null ? {} : { region }),
      ...(endpoint === null ? {} : { endpoint, forcePathStyle: true }),
    });
    return new S3Store(sdk, client, place, clock, partBytes);
  }

  async write(name: string, source: AsyncIterable<Uint8Array>, limitBytes: number): Promise<number> {
    const parts = partsOf(limited(source, limitBytes), this.#partBytes);
    try {
      const first = await parts.next();
      const bytes = first.done === true ? Buffer.alloc(0) : first.value;
      if (bytes.length < this.#partBytes) {
        await this.#client.send(new this.#sdk.PutObjectCommand({ ...this.#object(name), Body: bytes }));
        return bytes.length;
      }
      return await this.#upload(name, bytes, parts);
    } catch (err) {
      throw this.#failure(err);
    } finally {
      await parts.return(undefined);
    }
  }

  read(name: string): AsyncIterable<Uint8Array> {
    return this.#bytes(name);
  }

  async remove(name: string): Promise<void> {
    try {
      await this.#client.send(new this.#sdk.DeleteObjectCommand(this.#object(name)));
    } catch (err) {
      throw this.#failure(err);
    }
  }

  async removeAll(prefix: string): Promise<void> {
    const { bucket, prefix: own } = this.#place;
    const list = { Bucket: bucket, Prefix: `${own}${prefix}/` };
    for (;;) {
      const page = await this.#client.send(new this.#sdk.ListObjectsV2Command(list)).catch((err: unknown) => {
        throw this.#failure(err);
      });
      const names = (page.Contents ?? []).flatMap(({ Key }) => (Key === undefined ? [] : [Key.slice(own.length)]));
      // What is removed is not in the next listing, which therefore always begins at the start.
      for (let at = 0; at < names.length; at += REMOVALS)
        await Promise.all(names.slice(at, at + REMOVALS).map((name) => this.remove(name)));
      if (names.length === 0 || page.IsTruncated !== true) return;
    }
  }

  /** Closes connections. */
  close(): void {
    this.#client.destroy();
  }

  #object(name: string): { Bucket: string; Key: string } {
    return { Bucket: this.#place.bucket, Key: `${this.#place.prefix}${name}` };
  }

  async #upload(name: string, first: Buffer, rest: AsyncIterable<Buffer>): Promise<number> {
    const object = this.#object(name);
    const { UploadId } = await this.#client.send(new this.#sdk.CreateMultipartUploadCommand(object));
    const upload = { ...object, UploadId };
    const done: S3.CompletedPart[] = [];
    let bytes = 0;
    const put = async (part: Buffer): Promise<void> => {
      const PartNumber = done.length + 1;
      const { ETag } = await this.#client.send(new this.#sdk.UploadPartCommand({ ...upload, PartNumber, Body: part }));
      done.push({ PartNumber, ETag });
      bytes += part.length;
    };
    try {
      await put(first);
      for await (const part of rest) await put(part);
      const parts = { MultipartUpload: { Parts: done } };
      await this.#client.send(new this.#sdk.CompleteMultipartUploadCommand({ ...upload, ...parts }));
      return bytes;
    } catch (err) {
      // What failed is thrown; that the parts could not be removed as well is for the bucket's lifecycle.
      await this.#client.send(new this.#sdk.AbortMultipartUploadCommand(upload)).catch(() => undefined);
      throw err;
    }
  }

  async *#bytes(name: string): AsyncGenerator<Uint8Array> {
    let at = 0;
    let etag: string | undefined;
    for (let attempt = 1; ; attempt++) {
      try {
        const from = at === 0 ? {} : { Range: `bytes=${at}-`, IfMatch: etag };
        const answer = await this.#client.send(new this.#sdk.GetObjectCommand({ ...this.#object(name), ...from }));
        etag = answer.ETag;
        const end = at + (answer.ContentLength ?? 0);
        for await (const chunk of answer.Body as unknown as AsyncIterable<Uint8Array>) {
          at += chunk.byteLength;
          attempt = 1;
          yield chunk;
        }
        if (at >= end) return;
      } catch (err) {
        const failure = this.#failure(err);
        if (failure.code !== 'storage_unavailable' || attempt >= READ_ATTEMPTS) throw failure;
      }
      if (attempt >= READ_ATTEMPTS) throw fail('storage_unavailable', 'the file could not be read to its end');
      await this.#clock.sleep(READ_PAUSE_MS);
    }
  }

  #failure(err: unknown): GuildhallError {
    if (isGuildhallError(err)) return err;
    const name = err instanceof Error ? err.name : '';
    const status = (err as { $metadata?: { httpStatusCode?: number } } | null)?.$metadata?.httpStatusCode ?? null;
    if (name === 'NoSuchKey' || name === 'NotFound')
      return fail('not_found', 'the content of the file is gone', { cause: err });
    if (name === 'PreconditionFailed' || status === 412)
      return fail('not_found', 'the content of the file was replaced while it was read', { cause: err });
    const where = `s3://${this.#place.bucket}`;
    return fail('storage_unavailable', `${where}: ${name}: ${errorMessage(err)}`, { cause: err });
  }
}

/** Bytes in pieces of exactly this size, but for the last one, which may be shorter and is never empty. */
async function* partsOf(source: AsyncIterable<Uint8Array>, size: number): AsyncGenerator<Buffer, void> {
  let held: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of source) {
    let rest = chunk;
    while (bytes + rest.byteLength >= size) {
      held.push(rest.subarray(0, size - bytes));
      rest = rest.subarray(size - bytes);
      yield Buffer.concat(held);
      held = [];
      bytes = 0;
    }
    if (rest.byteLength > 0) held.push(rest);
    bytes += rest.byteLength;
  }
  if (bytes > 0) yield Buffer.concat(held);
}
