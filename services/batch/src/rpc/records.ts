import type { batches } from '@guildhall/proto';
import type { Batch } from '../store/batch-store.ts';
import type { FileRecord } from '../store/file-store.ts';

/** Milliseconds as whole seconds; nothing as 0. */
function seconds(ms: number | undefined): bigint {
  return BigInt(Math.floor((ms ?? 0) / 1000));
}

/** A file as gateways get it. */
export function fileMessage(record: FileRecord): batches.StoredFile {
  const { id, filename, purpose, bytes, createdMs, expiresMs } = record;
  return { id, filename, purpose, bytes: BigInt(bytes), createdAt: seconds(createdMs), expiresAt: seconds(expiresMs) };
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
