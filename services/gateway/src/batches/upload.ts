import type { MultipartFile, MultipartValue } from '@fastify/multipart';
import { fail } from '@guildhall/common';
import type { batches } from '@guildhall/proto';
import { isPurpose, PURPOSES } from '../schema/files.ts';
import { MAX_LIFE_S, MAX_NAME, MIN_LIFE_S } from '../schema/uploads.ts';
import type { BatchServices } from './batch-services.ts';
import { ofForm } from './form.ts';
import { StreamedCall } from './streamed-call.ts';

/** A part of a form. */
export type Part = MultipartFile | MultipartValue;

/** Fields of the form beside the file. */
class UploadFields {
  purpose: string | null = null;
  filename: string | null = null;
  #expiresAfterS = 0;

  /** Throws `invalid_value` and `unknown_field`. */
  take(part: MultipartValue): void {
    const name = shownName(part);
    const value = String(part.value);
    if (part.valueTruncated) throw fail('invalid_value', `${name}: too long`, { field: name });
    if (name === 'purpose') this.purpose = value;
    else if (name === 'expires_after[anchor]') this.#anchor(value);
    else if (name === 'expires_after[seconds]') this.#expiresAfterS = Number(value);
    else if (name === 'file') throw fail('missing_field', 'file: the part needs a filename', { field: 'file' });
    else throw fail('unknown_field', `unknown field: ${name}`, { field: name });
  }

  /** Throws `missing_field` and `invalid_value`. */
  head(tenant: string): batches.UploadHead {
    const { purpose, filename } = this;
    if (filename === null) throw fail('missing_field', 'file is required', { field: 'file' });
    if (purpose === null) throw fail('missing_field', 'purpose is required', { field: 'purpose' });
    if (!isPurpose(purpose))
      throw fail('invalid_value', `purpose: must be one of ${PURPOSES.join(', ')}`, { field: 'purpose' });
    const life = this.#expiresAfterS;
    if (life !== 0 && !(Number.isInteger(life) && life >= MIN_LIFE_S && life <= MAX_LIFE_S)) {
      const message = `expires_after.seconds: must be from ${MIN_LIFE_S} to ${MAX_LIFE_S}`;
      throw fail('invalid_value', message, { field: 'expires_after' });
    }
    return { tenant, filename: filename.slice(0, MAX_NAME).toWellFormed(), purpose, expiresAfterS: BigInt(life) };
  }

  #anchor(value: string): void {
    if (value !== 'created_at')
      throw fail('invalid_value', 'expires_after.anchor: must be created_at', { field: 'expires_after' });
  }
}

/** Name of a part, as far as messages show it. The parser's types promise one; it has none to give where the part has none. */
export function shownName({ fieldname }: Part): string {
  return ((fieldname as string | undefined) ?? '').slice(0, 80);
}

/** Name of a file. Throws `missing_field`: a part without one may come as a file by its content type. */
function namedFile({ filename }: MultipartFile): string {
  // As above.
  const name = (filename as string | undefined) ?? '';
  if (name === '') throw fail('missing_field', 'file: the part needs a filename', { field: 'file' });
  return name;
}

/**
 * Passes an upload on as it comes in: the service takes the bytes as fast as it stores them, and nothing is kept here. The
 * fields may come before the file or after it. Throws what the service refuses, and `missing_field`, `invalid_value`, `unknown_field`.
 */
export async function passUpload(
  services: BatchServices,
  parts: AsyncIterable<Part>,
  tenant: string,
): Promise<batches.StoredFile> {
  const { client, metadata } = services.pick();
  const call = new StreamedCall<batches.UploadPart, batches.StoredFile>((answer) =>
    client.uploadFile(metadata, answer),
  );
  const send = (part: batches.UploadPart['part']): Promise<void> => call.send({ part });
  try {
    const fields = new UploadFields();
    for await (const part of ofForm(parts)) {
      if (part.type === 'field') {
        fields.take(part);
        continue;
      }
      if (part.fieldname !== 'file' || fields.filename !== null)
        throw fail('unknown_field', 'the form holds one file, named `file`', { field: shownName(part) });
      fields.filename = namedFile(part);
      for await (const chunk of ofForm(part.file)) await send({ $case: 'data', value: chunk as Buffer });
    }
    await send({ $case: 'head', value: fields.head(tenant) });
    return await call.end();
  } catch (err) {
    call.cancel();
    throw err;
  }
}
