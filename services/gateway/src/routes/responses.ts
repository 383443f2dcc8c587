import { fail, toGuildhallError } from '@guildhall/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type Caller, callerOf, checkModel } from '../caller.ts';
import { planChat } from '../chat/plan-chat.ts';
import type { GatewayContext } from '../context.ts';
import { withNames } from '../dialect-errors.ts';
import { assertCounted, countedFor, prepareChat, type PromptBounds } from '../prompt.ts';
import { withRequestScope } from '../request-scope.ts';
import { noteBrokenStream, runStream, runWhole } from '../run-completion.ts';
import { follow, retell } from '../responses/follow.ts';
import { historyOf, itemsOf, resolved } from '../responses/items.ts';
import { cancel, inputItems, remove, retrieve } from '../responses/manage.ts';
import { type AskedResponse, prepareResponse, ttlOf } from '../responses/prepare.ts';
import { namedEvents, respondStream, respondWhole } from '../responses/run.ts';
import { fromStored, storedOf } from '../responses/stored.ts';
import { promptOf, RESPONSE_FIELDS } from '../responses/translate.ts';
import { errorResponse } from '../schema/error.ts';
import {
  deletedResponse,
  inputTokens,
  type InputTokensRequest,
  inputTokensRequest,
  itemsQuery,
  response,
  responseEvent,
  responseItemList,
  responseParams,
  responseQuery,
  type ResponseRequest,
  responseRequest,
} from '../schema/responses.ts';
import type { GatewayApp } from './types.ts';

const responseBody = {
  200: {
    description: 'The response; an event stream when `stream` is true.',
    content: { 'application/json': { schema: response }, 'text/event-stream': { schema: responseEvent } },
  },
  default: errorResponse,
};

type Asking = FastifyRequest<{ Body: ResponseRequest }>;

/** Everything under /v1/responses. */
export function responsesRoute(app: GatewayApp, context: GatewayContext): void {
  app.post(
    '/v1/responses',
    { schema: { summary: 'Response', body: responseRequest, response: responseBody } },
    (request, reply) =>
      request.body.background === true
        ? createInBackground(context, request, reply)
        : createAndWait(context, request, reply),
  );
  app.post(
    '/v1/responses/input_tokens',
    {
      schema: {
        summary: 'How many tokens a response would read',
        body: inputTokensRequest,
        response: { 200: inputTokens, default: errorResponse },
      },
    },
    async (request) => {
      const { tenant } = callerOf(request);
      return {
        object: 'response.input_tokens' as const,
        input_tokens: await countOf(context, request.body, tenant, countedFor(request)),
      };
    },
  );
  storedRoutes(app, context);
}

/** Routes of responses that are stored. */
function storedRoutes(app: GatewayApp, context: GatewayContext): void {
  const params = responseParams;
  const tenantOf = (request: FastifyRequest): string => callerOf(request).tenant;
  app.get(
    '/v1/responses/:response_id',
    { schema: { summary: 'One response', params, querystring: responseQuery, response: responseBody } },
    async (request, reply) => {
      const { response_id: id } = request.params;
      const { stream, starting_after: after } = request.query;
      if (stream !== 'true' && after === undefined) return retrieve(context, tenantOf(request), id);
      if (stream !== 'true')
        throw fail('invalid_value', 'starting_after: only allowed when stream is true', { field: 'starting_after' });
      await streamStored(context, reply, tenantOf(request), id, after ?? -1);
      return reply;
    },
  );
  app.post(
    '/v1/responses/:response_id/cancel',
    { schema: { summary: 'Stop a background response', params, response: { 200: response, default: errorResponse } } },
    (request) => cancel(context, tenantOf(request), request.params.response_id),
  );
  app.delete(
    '/v1/responses/:response_id',
    { schema: { summary: 'Remove a response', params, response: { 200: deletedResponse, default: errorResponse } } },
    async (request) => {
      const { response_id: id } = request.params;
      await remove(context, tenantOf(request), id);
      return { id, object: 'response' as const, deleted: true as const };
    },
  );
  app.get(
    '/v1/responses/:response_id/input_items',
    {
      schema: {
        summary: 'What a response was asked with',
        params,
        querystring: itemsQuery,
        response: { 200: responseItemList, default: errorResponse },
      },
    },
    (request) => inputItems(context, tenantOf(request), request.params.response_id, request.query),
  );
}

async function createAndWait(context: GatewayContext, request: Asking, reply: FastifyReply) {
  const { body } = request;
  return await withRequestScope(context, reply, body.model, async (scope) => {
    const caller = callerOf(request);
    const asked = await prepareResponse(context, body, caller.tenant);
    const planned = await plannedOf(context, request, asked, caller);
    const waited = { asked, planned, tenant: caller.tenant };
    if (body.stream !== true) return runWhole(reply, planned.trace, () => respondWhole(context, scope, waited));
    await respondStream(context, scope, reply, waited);
    return reply;
  });
}

async function createInBackground(context: GatewayContext, request: Asking, reply: FastifyReply) {
  const { body } = request;
  const caller = callerOf(request);
  checkModel(caller, body.model);
  const asked = await prepareResponse(context, body, caller.tenant);
  // Planned for its errors, so that they are answered now; it is planned again by whoever runs it.
  const { telemetry } = await plannedOf(context, request, asked, caller);
  const begun = await context.background.begin(asked, caller, telemetry.traceparent);
  if (body.stream !== true) return begun;
  await streamStored(context, reply, caller.tenant, begun.id, -1);
  return reply;
}

function plannedOf(context: GatewayContext, request: Asking, asked: AskedResponse, caller: Caller) {
  return withNames(RESPONSE_FIELDS, () => planChat(context, asked.chat, request, caller, asked.id));
}

/** Streams the events of a stored response after number `after`. */
async function streamStored(
  context: GatewayContext,
  reply: FastifyReply,
  tenant: string,
  id: string,
  after: number,
): Promise<void> {
  const stored = await storedOf(context, tenant, id);
  const { background } = fromStored(stored);
  if (!background && after >= 0)
    throw fail('unsupported', 'starting_after: only streams of background responses can be gone on with', {
      field: 'starting_after',
    });
  await whileConnected(reply, (signal) =>
    runStream(context, { signal }, reply, null, async (stream) => {
      const take = (events: Parameters<typeof namedEvents>[0]): Promise<void> =>
        stream.sendNamed(namedEvents(events.filter((event) => event.sequence_number > after)));
      try {
        await (background ? follow(context, stored, take, signal) : retell(stored, take));
        stream.end();
      } catch (err) {
        if (!stream.opened) throw err;
        noteBrokenStream(context.logger, reply, err);
        const { code, message } = toGuildhallError(err);
        stream.end([
          { name: 'error', value: { type: 'error', code, message, param: null, sequence_number: after + 1 } },
        ]);
      }
    }),
  );
}

/** Runs `task` with a signal that aborts when the client goes away. Reading takes no place and no quota. */
async function whileConnected(reply: FastifyReply, task: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const controller = new AbortController();
  const onClose = (): void => controller.abort(fail('cancelled', 'the client closed the connection'));
  reply.raw.once('close', onClose);
  if (reply.raw.closed) onClose();
  try {
    await task(controller.signal);
  } finally {
    reply.raw.off('close', onClose);
  }
}

async function countOf(
  context: GatewayContext,
  body: InputTokensRequest,
  tenant: string,
  bounds: PromptBounds,
): Promise<number> {
  context.models.resolve(body.model);
  const history = await historyOf(context.responses, tenant, body.previous_response_id ?? null, ttlOf(context));
  const own = await resolved(context.responses, tenant, itemsOf(body.input));
  const chat = promptOf(body, [...history.map((item) => ({ item, place: null })), ...own]);
  const prompt = await withNames(RESPONSE_FIELDS, async () => {
    const counted = await prepareChat(context.assets, chat, bounds);
    assertCounted(counted.ids, 'messages');
    return counted;
  });
  return prompt.ids.length;
}
