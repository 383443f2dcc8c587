import { randomBytes } from 'node:crypto';
import { fail } from '@guildhall/common';

const FILE_ID = /^file-[0-9a-f]{24}$/;
const UPLOAD_ID = /^upload_[0-9a-f]{24}$/;
const BATCH_ID = /^batch_[0-9a-f]{24}$/;

/** Names of files and batches are made here and never by a client: they are parts of paths and keys. */
export function newFileId(): string {
  return `file-${randomBytes(12).toString('hex')}`;
}

export function newBatchId(): string {
  return `batch_${randomBytes(12).toString('hex')}`;
}

export function newUploadId(): string {
  return `upload_${randomBytes(12).toString('hex')}`;
}

export function newPartId(): string {
  return `part_${randomBytes(12).toString('hex')}`;
}

/** Throws `not_found` for what can be no upload's name. */
export function checkUploadId(id: string): string {
  if (UPLOAD_ID.test(id)) return id;
  throw noSuch('upload', id, 'upload_id');
}

/** Throws `not_found` for what can be no file's name. */
export function checkFileId(id: string, field: string): string {
  if (FILE_ID.test(id)) return id;
  throw noSuch('file', id, field);
}

/** Throws `not_found` for what can be no batch's name. */
export function checkBatchId(id: string): string {
  if (BATCH_ID.test(id)) return id;
  throw noSuch('batch', id, 'batch_id');
}

/** That there is no such thing, or that it is another tenant's: both look the same. */
export function noSuch(what: 'file' | 'batch' | 'upload', id: string, field: string): Error {
  return fail('not_found', `there is no ${what} "${id.slice(0, 80)}"`, { field });
}
