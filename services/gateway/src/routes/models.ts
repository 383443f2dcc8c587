import { z } from 'zod';
import { fail } from '@guildhall/common';
import { type Caller, callerOf, checkModel } from '../caller.ts';
import { contextLength, type GatewayContext } from '../context.ts';
import { errorResponse } from '../schema/error.ts';
import { type Model, model, modelList } from '../schema/models.ts';
import type { GatewayApp } from './types.ts';

function describe(context: GatewayContext, id: string): Model {
  return {
    id,
    object: 'model',
    created: context.startedAtS,
    owned_by: 'guildhall',
    root: context.assets.name,
    parent: null,
    max_model_len: contextLength(context),
  };
}

function find(context: GatewayContext, caller: Caller, id: string): Model {
  if (!context.models.names.includes(id))
    throw fail('model_not_found', `The model \`${id}\` does not exist.`, { field: 'model' });
  checkModel(caller, id);
  return describe(context, id);
}

/** GET /v1/models and GET /v1/models/{model}. */
export function modelsRoute(app: GatewayApp, context: GatewayContext): void {
  app.get(
    '/v1/models',
    { schema: { summary: 'Served models', response: { 200: modelList, default: errorResponse } } },
    (request) => {
      const { models } = callerOf(request);
      const names = context.models.names.filter((id) => models?.includes(id) ?? true);
      return { object: 'list' as const, data: names.map((id) => describe(context, id)) };
    },
  );
  app.get(
    '/v1/models/:model',
    {
      schema: {
        summary: 'One served model',
        params: z.object({ model: z.string() }),
        response: { 200: model, default: errorResponse },
      },
    },
    (request) => find(context, callerOf(request), request.params.model),
  );
  // Model names may hold slashes, which some clients don't escape.
  app.get('/v1/models/*', { schema: { hide: true, params: z.object({ '*': z.string() }) } }, (request) =>
    find(context, callerOf(request), request.params['*']),
  );
}
