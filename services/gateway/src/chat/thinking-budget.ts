import { fail } from '@guildhall/common';
import type { router } from '@guildhall/proto';
import type { Assets } from '../assets.ts';
import type { GatewayContext } from '../context.ts';
import type { PreparedPrompt } from '../prompt.ts';
import type { ChatRequest } from '../schema/chat.ts';

const FIELD = 'chat_template_kwargs.thinking_budget';

/** The budget that a request sets, in tokens: by vLLM's name, else by that of SGLang and of Qwen's own service. */
function askedBudget(body: Pick<ChatRequest, 'thinking_token_budget' | 'chat_template_kwargs'>): number | null {
  const budget = body.thinking_token_budget ?? body.chat_template_kwargs?.['thinking_budget'] ?? null;
  if (budget === null) return null;
  if (typeof budget === 'number' && Number.isInteger(budget) && budget >= 0 && budget <= 0x7fffffff) return budget;
  throw fail('invalid_value', `${FIELD}: expected an integer from 0 to ${0x7fffffff}`, { field: FIELD });
}

/** Token ids of closing words, by checkpoint and words: they are the same for every request. */
const endings = new WeakMap<Assets, Map<string, readonly number[]>>();

async function endingOf(assets: Assets, words: string, endId: number): Promise<readonly number[]> {
  const known = endings.get(assets)?.get(words);
  if (known !== undefined) return known;
  const ids = [...(await assets.tokenizer.encode(words)), endId];
  endings.set(assets, (endings.get(assets) ?? new Map<string, readonly number[]>()).set(words, ids));
  return ids;
}

/**
 * How a router is to close the think block that the prompt ends in; undefined without a budget, or without such a block.
 * The closing sentence is not part of the budget.
 */
export async function thinkingBudget(
  { assets, config }: Pick<GatewayContext, 'assets' | 'config'>,
  body: Pick<ChatRequest, 'thinking_token_budget' | 'chat_template_kwargs'>,
  prompt: PreparedPrompt,
): Promise<router.ThinkingBudget | undefined> {
  const tokens = askedBudget(body);
  const endId = assets.tokenizer.tokenToId('</think>');
  if (tokens === null || endId === null || !prompt.insideThink) return undefined;
  const words = config.thinkingEndText === '' ? '\n' : `\n\n${config.thinkingEndText}\n`;
  return { tokens, endIds: [...(await endingOf(assets, words, endId))] };
}
