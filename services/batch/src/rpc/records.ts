import type { batches } from '@guildhall/proto';
import type { Batch } from '../store/batch-store.ts';
import type { FileRecord } from '../store/file-store.ts';
import type { Part, Upload } from '../store/upload-store.ts';

/** Milliseconds as whole seconds; nothing as 0. */
function seconds(ms: number | undefined): bigint {
  return BigInt(Math.floor((ms ?? 0) / 1000));
}

/** A file as gateways get it. */
export function fileMessage(record: FileRecord): batches.StoredFile {
  const { id, filename, purpose, bytes, createdMs, expiresMs } = record;
  return { id, filename, purpose, bytes: BigInt(bytes), createdAt: seconds(createdMs), expiresAt: seconds(expiresMs) };
}

/** An upload in parts as gateways get it. */
export function uploadMessage(upload: Upload): batches.UploadRecord {
  const { id, filename, purpose, bytes, status, createdMs, expiresMs, file } = upload;
  return {
    id,
    filename,
    purpose,
    bytes: BigInt(bytes),
    status,
    createdAt: seconds(createdMs),
    expiresAt: seconds(expiresMs),
    file: file === null ? undefined : fileMessage(file),
  };
}

/** A part of one. */
export function partMessage({ id, uploadId, createdMs }: Part): batches.StoredPart {
  return { id, uploadId, createdAt: seconds(createdMs) };
}

/** A batch as gateways get it. */
export function batchMessage(batch: Batch): batches.BatchRecord {
  const { id, endpoint, inputFileId, status, outputFileId, errorFileId, total, completed, failed, times } = batch;
  const over = status === 'completed' || status === 'expired' || status === 'cancelled';
  return {
    id,
    endpoint,
    inputFileId,
    status,
    // Named before they are written, and told once they are.
    outputFileId: over ? outputFileId : '',
    errorFileId: over ? errorFileId : '',
    total,
    completed,
    failed,
    errors: batch.errors,
    metadata: new Map(Object.entries(batch.metadata)),
    createdAt: seconds(batch.createdMs),
    expiresAt: seconds(batch.expiresMs),
    inProgressAt: seconds(times.in_progress),
    finalizingAt: seconds(times.finalizing),
    completedAt: seconds(times.completed),
    failedAt: seconds(times.failed),
    expiredAt: seconds(times.expired),
    cancellingAt: seconds(times.cancelling),
    cancelledAt: seconds(times.cancelled),
  };
}
