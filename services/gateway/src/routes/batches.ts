import type { batches } from '@guildhall/proto';
import { z } from 'zod';
import { fail } from '@guildhall/common';
import { batchAnswer, listAnswer } from '../batches/answers.ts';
import { callerOf } from '../caller.ts';
import type { GatewayContext } from '../context.ts';
import { batch, batchList, batchListQuery, batchRequest } from '../schema/batches.ts';
import { errorResponse } from '../schema/error.ts';
import type { GatewayApp } from './types.ts';

const params = z.object({ batch_id: z.string().max(64) });

/** Everything under /v1/batches. */
export function batchesRoute(app: GatewayApp, context: GatewayContext): void {
  const { batches: services } = context;
  app.post(
    '/v1/batches',
    {
      schema: {
        summary: 'Run a file of requests',
        body: batchRequest,
        response: { 200: batch, default: errorResponse },
      },
    },
    async (request) => {
      const { input_file_id: inputFileId, endpoint, metadata } = request.body;
      const { tenant, models } = callerOf(request);
      if (models !== null) throw fail('forbidden', 'a key that is for some models only cannot make batches');
      const wanted = { tenant, inputFileId, endpoint, metadata: new Map(Object.entries(metadata ?? {})) };
      return batchAnswer(await services.call('createBatch', wanted));
    },
  );
  app.get(
    '/v1/batches',
    {
      schema: { summary: 'Batches', querystring: batchListQuery, response: { 200: batchList, default: errorResponse } },
    },
    async (request) => {
      const { after = '', order, limit } = request.query;
      const { tenant } = callerOf(request);
      const query = { tenant, limit, after, ascending: order === 'asc', purpose: '' };
      const { batches: found, hasMore } = await services.call('listBatches', query);
      return listAnswer(found.map(batchAnswer), hasMore);
    },
  );
  app.get(
    '/v1/batches/:batch_id',
    { schema: { summary: 'One batch', params, response: { 200: batch, default: errorResponse } } },
    async (request) => batchAnswer(await services.call('getBatch', ownedBy(request))),
  );
  app.post(
    '/v1/batches/:batch_id/cancel',
    { schema: { summary: 'Stop a batch', params, response: { 200: batch, default: errorResponse } } },
    async (request) => batchAnswer(await services.call('cancelBatch', ownedBy(request))),
  );
}

function ownedBy(request: Parameters<typeof callerOf>[0] & { params: { batch_id: string } }): batches.OwnedId {
  return { tenant: callerOf(request).tenant, id: request.params.batch_id };
}
