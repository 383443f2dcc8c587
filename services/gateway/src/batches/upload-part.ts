import { fail } from '@guildhall/common';
import type { batches } from '@guildhall/proto';
import type { BatchServices } from './batch-services.ts';
import { ofForm } from './form.ts';
import { StreamedCall } from './streamed-call.ts';
import { type Part, shownName } from './upload.ts';

/**
 * Passes a part of an upload on as it comes in. Throws what the service refuses, `missing_field` for a form without `data`, and
 * `unknown_field` for one with anything else.
 */
export async function passPart(
  services: BatchServices,
  parts: AsyncIterable<Part>,
  upload: batches.OwnedId,
): Promise<batches.StoredPart> {
  const { client, metadata } = services.pick();
  const call = new StreamedCall<batches.UploadPiece, batches.StoredPart>((answer) =>
    client.addUploadPart(metadata, answer),
  );
  try {
    let found = false;
    await call.send({ piece: { $case: 'upload', value: upload } });
    for await (const part of ofForm(parts)) {
      if (part.type === 'field' || part.fieldname !== 'data' || found) {
        const field = shownName(part);
        throw fail('unknown_field', `the form holds one file, named \`data\`, and not '${field}'`, { field });
      }
      found = true;
      for await (const chunk of ofForm(part.file))
        await call.send({ piece: { $case: 'data', value: chunk as Buffer } });
    }
    if (!found) throw fail('missing_field', 'data is required, as a file of the form', { field: 'data' });
    return await call.end();
  } catch (err) {
    call.cancel();
    throw err;
  }
}
