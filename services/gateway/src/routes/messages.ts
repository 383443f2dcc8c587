import { messageStream, messageWhole, planMessage } from '../anthropic/run.ts';
import { MESSAGE_FIELDS, promptOf } from '../anthropic/translate.ts';
import { callerOf } from '../caller.ts';
import type { GatewayContext } from '../context.ts';
import { withNames } from '../dialect-errors.ts';
import { assertCounted, countedFor, prepareChat } from '../prompt.ts';
import { withRequestScope } from '../request-scope.ts';
import { runWhole } from '../run-completion.ts';
import {
  anthropicError,
  anthropicEvent,
  anthropicMessage,
  countTokensRequest,
  messagesRequest,
  tokenCount,
} from '../schema/anthropic.ts';
import type { GatewayApp } from './types.ts';

/** POST /v1/messages and POST /v1/messages/count_tokens, shaped like Anthropic's. */
export function messagesRoute(app: GatewayApp, context: GatewayContext): void {
  app.post(
    '/v1/messages',
    {
      schema: {
        summary: "Message, in Anthropic's shape",
        body: messagesRequest,
        response: {
          200: {
            description: 'The message; an event stream when `stream` is true.',
            content: {
              'application/json': { schema: anthropicMessage },
              'text/event-stream': { schema: anthropicEvent },
            },
          },
          default: anthropicError,
        },
      },
    },
    (request, reply) =>
      withRequestScope(context, reply, request.body.model, async (scope) => {
        void reply.header('request-id', request.id);
        const caller = callerOf(request);
        const message = await planMessage(context, request.body, request, caller);
        if (request.body.stream !== true)
          return runWhole(reply, message.planned.trace, () => messageWhole(context, scope, message));
        await messageStream(context, scope, reply, message);
        return reply;
      }),
  );
  app.post(
    '/v1/messages/count_tokens',
    {
      schema: {
        summary: 'How many tokens a message would read',
        body: countTokensRequest,
        response: { 200: tokenCount, default: anthropicError },
      },
    },
    async (request, reply) => {
      void reply.header('request-id', request.id);
      context.models.resolve(request.body.model);
      const prompt = await withNames(MESSAGE_FIELDS, async () => {
        const counted = await prepareChat(context.assets, promptOf(request.body), countedFor(request));
        assertCounted(counted.ids, 'messages');
        return counted;
      });
      return { input_tokens: prompt.ids.length };
    },
  );
}
