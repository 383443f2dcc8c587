import { Readable } from 'node:stream';
import { fromGrpc } from '@guildhall/common';
import type { batches } from '@guildhall/proto';
import { z } from 'zod';
import { fileAnswer, listAnswer } from '../batches/answers.ts';
import { addFormRoutes, partsOf } from '../batches/form.ts';
import { passUpload } from '../batches/upload.ts';
import { callerOf } from '../caller.ts';
import type { GatewayContext } from '../context.ts';
import { errorResponse } from '../schema/error.ts';
import { deletedFile, file, fileList, fileListQuery } from '../schema/files.ts';
import type { GatewayApp } from './types.ts';

const params = z.object({ file_id: z.string().max(64) });

/** The content of a file, from its first bytes on: a file that is not there is refused before the answer begins. */
async function contentOf(context: GatewayContext, owned: batches.OwnedId): Promise<Readable> {
  const { client, metadata } = context.batches.pick();
  const call = client.readFile(owned, metadata);
  call.on('error', () => undefined);
  const parts = call[Symbol.asyncIterator]() as AsyncIterator<batches.FileBytes>;
  const first = await parts.next().catch((err: unknown) => {
    throw fromGrpc(err);
  });
  async function* bytes(): AsyncGenerator<Buffer> {
    try {
      for (let part = first; part.done !== true; part = await parts.next()) yield part.value.data;
    } finally {
      call.cancel();
    }
  }
  return Readable.from(bytes(), { objectMode: false });
}

/** Everything under /v1/files. */
export function filesRoute(app: GatewayApp, context: GatewayContext): void {
  const { batches: services } = context;
  addFormRoutes(app, { fields: 8, parts: 10 }, (scope) => {
    scope.post(
      '/v1/files',
      {
        schema: {
          summary: 'Upload a file, as multipart/form-data with `file` and `purpose`',
          consumes: ['multipart/form-data'],
          response: { 200: file, default: errorResponse },
        },
      },
      async (request) => {
        const { tenant } = callerOf(request);
        return fileAnswer(await passUpload(services, partsOf(request), tenant));
      },
    );
  });
  app.get(
    '/v1/files',
    { schema: { summary: 'Files', querystring: fileListQuery, response: { 200: fileList, default: errorResponse } } },
    async (request) => {
      const { after = '', order, limit, purpose = '' } = request.query;
      const { tenant } = callerOf(request);
      const query = { tenant, limit, after, ascending: order === 'asc', purpose };
      const { files, hasMore } = await services.call('listFiles', query);
      return listAnswer(files.map(fileAnswer), hasMore);
    },
  );
  app.get(
    '/v1/files/:file_id',
    { schema: { summary: 'One file', params, response: { 200: file, default: errorResponse } } },
    async (request) => fileAnswer(await services.call('getFile', ownedBy(request))),
  );
  app.get(
    '/v1/files/:file_id/content',
    { schema: { summary: 'The content of a file', params } },
    async (request, reply) => {
      const content = await contentOf(context, ownedBy(request));
      return reply.type('application/octet-stream').send(content);
    },
  );
  app.delete(
    '/v1/files/:file_id',
    { schema: { summary: 'Remove a file', params, response: { 200: deletedFile, default: errorResponse } } },
    async (request) => {
      const { id } = await services.call('deleteFile', ownedBy(request));
      return { id, object: 'file' as const, deleted: true as const };
    },
  );
}

function ownedBy(request: Parameters<typeof callerOf>[0] & { params: { file_id: string } }): batches.OwnedId {
  return { tenant: callerOf(request).tenant, id: request.params.file_id };
}
