import type { batches } from '@guildhall/proto';
import type { Batch } from '../schema/batches.ts';
import type { File } from '../schema/files.ts';
import type { Upload } from '../schema/uploads.ts';

/** A time that may not have come. */
function timeOf(seconds: bigint): number | null {
  return seconds === 0n ? null : Number(seconds);
}

/** A file in OpenAI's shape. */
export function fileAnswer({ id, bytes, createdAt, expiresAt, filename, purpose }: batches.StoredFile): File {
  return {
    id,
    object: 'file',
    bytes: Number(bytes),
    created_at: Number(createdAt),
    expires_at: timeOf(expiresAt),
    filename,
    purpose,
    status: 'processed',
  };
}

/** An upload in OpenAI's shape. */
export function uploadAnswer(record: batches.UploadRecord): Upload {
  return {
    id: record.id,
    object: 'upload',
    bytes: Number(record.bytes),
    created_at: Number(record.createdAt),
    expires_at: Number(record.expiresAt),
    filename: record.filename,
    purpose: record.purpose,
    status: record.status as Upload['status'],
    file: record.file === undefined ? null : fileAnswer(record.file),
  };
}

/** A batch in OpenAI's shape. */
export function batchAnswer(record: batches.BatchRecord): Batch {
  const { errors, metadata } = record;
  return {
    id: record.id,
    object: 'batch',
    endpoint: record.endpoint,
    errors: errors.length === 0 ? null : { object: 'list', data: errors.map(errorAnswer) },
    input_file_id: record.inputFileId,
    completion_window: '24h',
    status: record.status,
    output_file_id: record.outputFileId || null,
    error_file_id: record.errorFileId || null,
    created_at: Number(record.createdAt),
    in_progress_at: timeOf(record.inProgressAt),
    expires_at: timeOf(record.expiresAt),
    finalizing_at: timeOf(record.finalizingAt),
    completed_at: timeOf(record.completedAt),
    failed_at: timeOf(record.failedAt),
    expired_at: timeOf(record.expiredAt),
    cancelling_at: timeOf(record.cancellingAt),
    cancelled_at: timeOf(record.cancelledAt),
    request_counts: { total: record.total, completed: record.completed, failed: record.failed },
    metadata: metadata.size === 0 ? null : Object.fromEntries(metadata),
  };
}

function errorAnswer({ code, message, param, line }: batches.BatchError) {
  return { code, message, param: param || null, line: line === 0 ? null : line };
}

/** A page of entries in OpenAI's shape. */
export function listAnswer<T extends { id: string }>(data: T[], hasMore: boolean) {
  return {
    object: 'list' as const,
    data,
    has_more: hasMore,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
  };
}
