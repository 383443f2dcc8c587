import type Anthropic from '@anthropic-ai/sdk';

/** Types of Anthropic's answers, as `openai-shapes.ts` has those of OpenAI's: apart, since both packages have types of the same name. */
export interface AnthropicShapes {
  message: Anthropic.Message;
  messageEvent: Anthropic.RawMessageStreamEvent | { type: 'ping' };
  messageTokens: Anthropic.MessageTokensCount;
  anthropicError: Anthropic.ErrorResponse;
}

/** What may be asked, by the same package. */
export interface AnthropicRequests {
  messageRequest: Anthropic.MessageCreateParamsNonStreaming;
  /** `betas` is sent as a header. */
  betaMessageRequest: Omit<Anthropic.Beta.MessageCreateParamsNonStreaming, 'betas'>;
}
