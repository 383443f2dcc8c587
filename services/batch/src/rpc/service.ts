import type { handleUnaryCall, ServerReadableStream, ServerWritableStream } from '@grpc/grpc-js';
import { fail, PacedCall, toGrpc, type Clock, type Metrics } from '@guildhall/common';
import type { batches } from '@guildhall/proto';
import { ENDPOINTS } from '../lines/request-line.ts';
import type { BatchStore } from '../store/batch-store.ts';
import type { FileStore, NewFile } from '../store/file-store.ts';
import type { PageRequest } from '../store/pages.ts';
import type { UploadStore } from '../store/upload-store.ts';
import { batchMessage, fileMessage, partMessage, uploadMessage } from './records.ts';

export interface BatchesRpcOptions {
  files: FileStore;
  batches: BatchStore;
  uploads: UploadStore;
  /** Has a batch run. */
  enqueue: (id: string) => Promise<void>;
  windowMs: number;
  clock: Clock;
  metrics: Metrics;
}

/** Longest time that a reader may take nothing, milliseconds. */
const READER_LIMIT_MS = 60_000;
const PAGE = 100;

/** A handler that answers with what `work` returns, or with its error. */
function unary<Request, Reply>(work: (request: Request) => Promise<Reply>): handleUnaryCall<Request, Reply> {
  return (call, reply) => {
    work(call.request).then(
      (answer) => reply(null, answer),
      (err: unknown) => reply(toGrpc(err)),
    );
  };
}

function pageOf({ limit, after, ascending }: batches.ListRequest): PageRequest {
  return { limit: Math.min(Math.max(limit, 1), PAGE * 100), after, ascending };
}

/** The Batches service. Everything that it is asked for names its tenant, and is not there for another. */
export function batchesRpc(options: BatchesRpcOptions): batches.BatchesServer {
  const { files, batches: store, uploads } = options;
  return {
    uploadFile: (call, reply) => {
      upload(options, call).then(
        (record) => reply(null, record),
        (err: unknown) => reply(toGrpc(err)),
      );
    },
    getFile: unary(async ({ tenant, id }) => fileMessage(await files.get(tenant, id))),
    listFiles: unary(async (request) => {
      const { files: found, hasMore } = await files.list(request.tenant, pageOf(request), request.purpose);
      return { files: found.map(fileMessage), hasMore };
    }),
    readFile: (call) => sendFile(options, call),
    deleteFile: unary(async ({ tenant, id }) => {
      const record = await files.get(tenant, id);
      await files.remove(record);
      return fileMessage(record);
    }),
    createBatch: unary((request) => createBatch(options, request)),
    getBatch: unary(async ({ tenant, id }) => batchMessage(await store.get(tenant, id))),
    listBatches: unary(async (request) => {
      const { batches: found, hasMore } = await store.list(request.tenant, pageOf(request));
      return { batches: found.map(batchMessage), hasMore };
    }),
    cancelBatch: unary(async ({ tenant, id }) => {
      await store.cancel(await store.get(tenant, id));
      return batchMessage(await store.get(tenant, id));
    }),
    createUpload: unary(async ({ head, bytes }) => {
      if (head === undefined) throw fail('missing_field', 'the upload has no head', { field: 'purpose' });
      return uploadMessage(await uploads.create(newFileOf(head), Number(bytes)));
    }),
    addUploadPart: (call, reply) => {
      addPart(options, call).then(
        (part) => reply(null, part),
        (err: unknown) => reply(toGrpc(err)),
      );
    },
    completeUpload: unary(async ({ tenant, id, partIds, md5 }) =>
      uploadMessage(await uploads.complete(tenant, id, partIds, md5)),
    ),
    cancelUpload: unary(async ({ tenant, id }) => uploadMessage(await uploads.cancel(tenant, id))),
  };
}

async function upload(
  { files, metrics }: BatchesRpcOptions,
  call: ServerReadableStream<batches.UploadPart, batches.StoredFile>,
): Promise<batches.StoredFile> {
  let head: batches.UploadHead | null = null;
  async function* bytes(): AsyncGenerator<Uint8Array> {
    for await (const { part } of call as AsyncIterable<batches.UploadPart>) {
      if (part?.$case === 'head') head = part.value;
      else if (part?.$case === 'data') yield part.value;
    }
    // A call that was cancelled ends like one that is complete.
    if (call.cancelled) throw fail('cancelled', 'the upload was broken off');
    if (head === null) throw fail('missing_field', 'the upload has no head', { field: 'purpose' });
  }
  const stored = await files.store(bytes());
  metrics.count('guildhall_file_bytes_total', { direction: 'stored' }, stored.bytes);
  return fileMessage(await files.addOrDiscard(stored, newFileOf(head as unknown as batches.UploadHead)));
}

function newFileOf({ tenant, filename, purpose, expiresAfterS }: batches.UploadHead): NewFile {
  return { tenant, filename, purpose, ttlMs: expiresAfterS === 0n ? null : Number(expiresAfterS) * 1000 };
}

async function addPart(
  { uploads, metrics }: BatchesRpcOptions,
  call: ServerReadableStream<batches.UploadPiece, batches.StoredPart>,
): Promise<batches.StoredPart> {
  const pieces = (call as AsyncIterable<batches.UploadPiece>)[Symbol.asyncIterator]();
  const first = await pieces.next();
  const target = first.done === true ? undefined : first.value.piece;
  if (target?.$case !== 'upload') throw fail('missing_field', 'the part names no upload', { field: 'upload_id' });
  async function* bytes(): AsyncGenerator<Uint8Array> {
    for (let next = await pieces.next(); next.done !== true; next = await pieces.next()) {
      const { piece } = next.value;
      if (piece?.$case !== 'data') continue;
      metrics.count('guildhall_file_bytes_total', { direction: 'stored' }, piece.value.byteLength);
      yield piece.value;
    }
    // A call that was cancelled ends like one that is complete.
    if (call.cancelled) throw fail('cancelled', 'the part was broken off');
  }
  return partMessage(await uploads.addPart(target.value.tenant, target.value.id, bytes()));
}

function sendFile(
  { files, clock, metrics }: BatchesRpcOptions,
  call: ServerWritableStream<batches.OwnedId, batches.FileBytes>,
): void {
  const paced = new PacedCall(call, { clock, readerLimitMs: READER_LIMIT_MS });
  const send = async (): Promise<void> => {
    const record = await files.get(call.request.tenant, call.request.id);
    for await (const data of files.read(record)) {
      await paced.write({ data: Buffer.from(data.buffer, data.byteOffset, data.byteLength) });
      metrics.count('guildhall_file_bytes_total', { direction: 'read' }, data.byteLength);
    }
    await paced.end();
  };
  send().catch((err: unknown) => paced.fail(err));
}

async function createBatch(
  { files, batches: store, enqueue, windowMs }: BatchesRpcOptions,
  { tenant, inputFileId, endpoint, metadata }: batches.CreateBatchRequest,
): Promise<batches.BatchRecord> {
  if (!ENDPOINTS.some((known) => known === endpoint))
    throw fail('invalid_value', `endpoint: must be one of ${ENDPOINTS.join(', ')}`, { field: 'endpoint' });
  const file = await files.get(tenant, inputFileId, 'input_file_id');
  if (file.purpose !== 'batch') {
    const message = `input_file_id: the file was uploaded with purpose "${file.purpose}", not "batch"`;
    throw fail('invalid_value', message, { field: 'input_file_id' });
  }
  const facts = { tenant, endpoint, inputFileId, metadata: Object.fromEntries(metadata) };
  const batch = await store.create(facts, windowMs);
  await enqueue(batch.id);
  return batchMessage(batch);
}
