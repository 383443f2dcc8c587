import type { batches } from '@guildhall/proto';
import { z } from 'zod';
import { uploadAnswer } from '../batches/answers.ts';
import { addFormRoutes, partsOf } from '../batches/form.ts';
import { passPart } from '../batches/upload-part.ts';
import { callerOf } from '../caller.ts';
import type { GatewayContext } from '../context.ts';
import { errorResponse } from '../schema/error.ts';
import { completeRequest, upload, uploadPart, uploadRequest } from '../schema/uploads.ts';
import type { GatewayApp } from './types.ts';

const params = z.object({ upload_id: z.string().max(64) });

/** Everything under /v1/uploads: files that come in parts. */
export function uploadsRoute(app: GatewayApp, context: GatewayContext): void {
  const { batches: services } = context;
  app.post(
    '/v1/uploads',
    {
      schema: {
        summary: 'Begin an upload in parts',
        body: uploadRequest,
        response: { 200: upload, default: errorResponse },
      },
    },
    async (request) => {
      const { filename, purpose, bytes, expires_after: expiry } = request.body;
      const expiresAfterS = BigInt(expiry?.seconds ?? 0);
      const head = { tenant: callerOf(request).tenant, filename: filename.toWellFormed(), purpose, expiresAfterS };
      return uploadAnswer(await services.call('createUpload', { head, bytes: BigInt(bytes) }));
    },
  );
  partsRoute(app, context);
  app.post(
    '/v1/uploads/:upload_id/complete',
    {
      schema: {
        summary: 'Make a file of the parts of an upload',
        params,
        body: completeRequest,
        response: { 200: upload, default: errorResponse },
      },
    },
    async (request) => {
      const { part_ids: partIds, md5 } = request.body;
      return uploadAnswer(await services.call('completeUpload', { ...ownedBy(request), partIds, md5: md5 ?? '' }));
    },
  );
  app.post(
    '/v1/uploads/:upload_id/cancel',
    { schema: { summary: 'Drop an upload and its parts', params, response: { 200: upload, default: errorResponse } } },
    async (request) => uploadAnswer(await services.call('cancelUpload', ownedBy(request))),
  );
}

function partsRoute(app: GatewayApp, { batches: services }: GatewayContext): void {
  addFormRoutes(app, { fields: 1, parts: 2 }, (scope) => {
    scope.post(
      '/v1/uploads/:upload_id/parts',
      {
        schema: {
          summary: 'Add a part to an upload, as multipart/form-data with `data`',
          consumes: ['multipart/form-data'],
          params,
          response: { 200: uploadPart, default: errorResponse },
        },
      },
      async (request) => {
        const { id, uploadId, createdAt } = await passPart(services, partsOf(request), ownedBy(request));
        return { id, object: 'upload.part' as const, created_at: Number(createdAt), upload_id: uploadId };
      },
    );
  });
}

function ownedBy(request: Parameters<typeof callerOf>[0] & { params: { upload_id: string } }): batches.OwnedId {
  return { tenant: callerOf(request).tenant, id: request.params.upload_id };
}
