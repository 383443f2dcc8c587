import { fail } from '@guildhall/common';
import { IncrementalDetokenizer } from '@guildhall/model/tokenizer';
import type { router } from '@guildhall/proto';
import type { Caller } from './caller.ts';
import type { GatewayContext } from './context.ts';
import type { ChoicePlan } from './generation.ts';
import { type SamplingInput, samplingParams, type StopInput, stopConditions } from './params.ts';
import type { OutputParser } from './parsers/parser.ts';
import { createParser, type ParserName } from './parsers/registry.ts';
import type { PreparedPrompt } from './prompt.ts';
import { toolCallId } from './request-id.ts';
import { mayHurry, type SERVICE_TIERS, servedTier, tierPriority } from './service-tier.ts';
import type { CallRules } from './tools/tool-choice.ts';
import { type ToolTable, toolTable } from './tools/tool-table.ts';

/** Priority of lines of batches, as routers take it: after everything that somebody waits for. */
const BACKGROUND = -1000;

/** What all choices of a request share. */
export interface PlanInput {
  id: string;
  body: SamplingInput &
    StopInput & {
      n?: number | null | undefined;
      skip_special_tokens?: boolean | null | undefined;
      cache_salt?: string | null | undefined;
      priority?: number | null | undefined;
      service_tier?: (typeof SERVICE_TIERS)[number] | null | undefined;
    };
  parser: ParserName;
  /** Alternatives per token; -1 for no log-probabilities. */
  topLogprobs: number;
  promptLogprobs: boolean;
  /** Alternatives per token of the prompt, where they are other than those of the answer. */
  promptTop?: number | undefined;
  /** Whether token ids are told. */
  tokenIds?: boolean;
  /** Which calls the answers may have; null for none. */
  calls: CallRules | null;
  thinking: router.ThinkingBudget | undefined;
  traceparent: string;
  /** Whose share of the cluster the request uses, and whether it gives way to others. */
  caller: Caller;
}

/** A prompt and how much may be generated after it. */
export interface PlannedPrompt extends PreparedPrompt {
  maxTokens: number;
}

/**
 * One plan for each choice, prompt by prompt. All share one seed; choices of a prompt differ by their number, so that
 * a prompt gets the same choices in a list as alone.
 */
export function planChoices(
  context: GatewayContext,
  input: PlanInput,
  prompts: readonly PlannedPrompt[],
): ChoicePlan[] {
  const { assets, config } = context;
  const { body, id, topLogprobs, promptLogprobs, traceparent, caller } = input;
  const { tenant } = caller;
  const priority = caller.background ? BACKGROUND : routerPriority(context, body);
  const alternatives = Math.max(topLogprobs, input.promptTop ?? -1);
  const sampling = samplingParams(assets, body, config.generationConfig === 'auto', alternatives);
  const choices = body.n ?? 1;
  const tools = input.calls === null ? null : toolTable(input.calls.tools);
  return prompts.flatMap((prompt, p) => {
    const stop = stopConditions(assets, body, prompt.maxTokens);
    return Array.from({ length: choices }, (_, choice) => ({
      index: p * choices + choice,
      request: {
        requestId: `${id}-${p * choices + choice}`,
        choice,
        promptIds: prompt.ids,
        generatedIds: [],
        sampling,
        stop,
        model: '',
        numericsId: '',
        deadlineMs: 0,
        priority,
        traceparent,
        promptLogprobs,
        cacheSalt: body.cache_salt ?? '',
        tenant,
        holder: undefined,
        moved: undefined,
        constraint: undefined,
        thinking: input.thinking,
      },
      assembler: assemblerOptions(
        context,
        input,
        prompt,
        stop,
        parserOf(context, input, prompt.insideThink, { tools, choice: p * choices + choice }),
      ),
    }));
  });
}

/**
 * Priority as routers take it, larger first: the request's own, else that of its tier. Throws `unsupported` where
 * callers may not set one.
 */
function routerPriority(context: GatewayContext, body: PlanInput['body']): number {
  const priority = body.priority ?? 0;
  if (priority !== 0 && !mayHurry(context)) {
    const message = 'priority: this gateway serves all callers alike; it must be started with --allow-priority on';
    throw fail('unsupported', message, { field: 'priority' });
  }
  return 0 - (priority === 0 ? tierPriority(servedTier(context, body.service_tier)) : priority);
}

function parserOf(
  context: GatewayContext,
  { parser, calls, id }: PlanInput,
  insideThink: boolean,
  { tools, choice }: { tools: ToolTable | null; choice: number },
): OutputParser {
  if (calls === null || tools === null) return createParser(parser, insideThink);
  const { parallel } = calls;
  const callIds = (call: number): string => toolCallId(id, choice, call);
  return createParser(parser, insideThink, { name: context.toolParser, tools, parallel, callIds });
}

function assemblerOptions(
  context: GatewayContext,
  input: PlanInput,
  prompt: PlannedPrompt,
  stop: router.StopConditions,
  parser: OutputParser,
): ChoicePlan['assembler'] {
  const { tokenizer, generation } = context.assets;
  const splits = prompt.insideThink && input.parser !== 'none';
  return {
    detokenizer: new IncrementalDetokenizer(tokenizer, { skipSpecial: input.body.skip_special_tokens ?? true }),
    parser,
    stopStrings: stop.stopStrings,
    includeStop: stop.includeStop,
    minTokens: stop.minTokens,
    stopIds: new Set([...stop.stopTokenIds, ...(stop.ignoreEos ? [] : generation.eosIds)]),
    askedStopIds: new Set(stop.stopTokenIds),
    logprobs: input.topLogprobs >= 0,
    topLogprobs: input.topLogprobs,
    tokenIds: input.tokenIds ?? false,
    thinkEndId: splits ? tokenizer.tokenToId('</think>') : null,
  };
}
