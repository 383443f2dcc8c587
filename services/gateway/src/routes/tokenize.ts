import { contextLength, type GatewayContext } from '../context.ts';
import { assertCounted, checkTokenIds, countedFor, type PromptBounds, renderMessages } from '../prompt.ts';
import { errorResponse } from '../schema/error.ts';
import {
  detokenizeRequest,
  detokenizeResponse,
  type TokenizeRequest,
  tokenizeRequest,
  tokenizeResponse,
} from '../schema/tokenize.ts';
import { tokenText } from '../token-text.ts';
import type { GatewayApp } from './types.ts';

/** Throws `invalid_value` for a text that has more tokens than are counted, or that cannot be cut. */
async function tokensOf(context: GatewayContext, body: TokenizeRequest, bounds: PromptBounds): Promise<Int32Array> {
  const { assets } = context;
  const { messages, prompt } = body;
  const field = messages === null || messages === undefined ? 'prompt' : 'messages';
  const text = field === 'prompt' ? (prompt ?? '') : renderMessages(assets, { ...body, messages: messages ?? [] }).text;
  const addSpecial = body.add_special_tokens ?? field === 'prompt';
  const ids = await assets.tokenizer.encode(text, { ...bounds, addSpecial, field });
  assertCounted(ids, field);
  return ids;
}

/** POST /tokenize and POST /detokenize, shaped like vLLM's. */
export function tokenizeRoute(app: GatewayApp, context: GatewayContext): void {
  app.post(
    '/tokenize',
    {
      schema: {
        summary: 'Token ids of a text or of messages',
        body: tokenizeRequest,
        response: { 200: tokenizeResponse, default: errorResponse },
      },
    },
    async (request) => {
      const { model, return_token_strs: withTexts } = request.body;
      if (model !== null && model !== undefined) context.models.resolve(model);
      const tokens = Array.from(await tokensOf(context, request.body, countedFor(request)));
      return {
        count: tokens.length,
        max_model_len: contextLength(context),
        tokens,
        token_strs: withTexts === true ? tokens.map((id) => tokenText(context.assets.tokenizer, id).text) : null,
      };
    },
  );
  app.post(
    '/detokenize',
    {
      schema: {
        summary: 'Text of token ids',
        body: detokenizeRequest,
        response: { 200: detokenizeResponse, default: errorResponse },
      },
    },
    (request) => {
      const { model, tokens } = request.body;
      if (model !== null && model !== undefined) context.models.resolve(model);
      checkTokenIds(context.assets, tokens, 'tokens');
      return { prompt: context.assets.tokenizer.decode(tokens, { skipSpecial: false }) };
    },
  );
}
