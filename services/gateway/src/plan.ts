import { IncrementalDetokenizer } from '@guildhall/model/tokenizer';
import type { router } from '@guildhall/proto';
import type { Caller } from './caller.ts';
import { type ConstrainedRequest, constraintOf, type PlannedConstraint } from './constraint.ts';
import type { GatewayContext } from './context.ts';
import type { ChoicePlan } from './generation.ts';
import { askedPriority } from './limits/priority.ts';
import { type SamplingInput, samplingParams, type StopInput, stopConditions } from './params.ts';
import type { OutputParser } from './parsers/parser.ts';
import { ToolOutcomeParser } from './parsers/tool-outcome.ts';
import { createParser, type ParserName } from './parsers/registry.ts';
import type { PreparedPrompt } from './prompt.ts';
import { toolCallId } from './request-id.ts';
import type { SERVICE_TIERS } from './service-tier.ts';
import type { CallRules } from './tools/tool-choice.ts';
import { type ToolTable, toolTable } from './tools/tool-table.ts';

/** What all choices of a request share. */
export interface PlanInput {
  id: string;
  body: SamplingInput &
    StopInput &
    ConstrainedRequest & {
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
export interface PlannedPrompt extends Omit<PreparedPrompt, 'cut'> {
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
  // Routers take larger ones first.
  const priority = 0 - askedPriority(context, caller, body);
  const alternatives = Math.max(topLogprobs, input.promptTop ?? -1);
  const sampling = samplingParams(assets, body, config.generationConfig === 'auto', alternatives);
  const choices = body.n ?? 1;
  const tools = input.calls === null ? null : toolTable(input.calls.tools);
  // Writing a grammar is work, and most prompts of a request end alike.
  const constraints = new Map<number, PlannedConstraint | undefined>();
  return prompts.flatMap((prompt, p) => {
    const stop = stopConditions(assets, body, prompt.maxTokens);
    const afterToken = thinkEndOf(context, input, prompt) ?? 0;
    if (!constraints.has(afterToken)) constraints.set(afterToken, constraintOf(body, afterToken, context.toolParser));
    const planned = constraints.get(afterToken);
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
        constraint: planned?.constraint,
        thinking: input.thinking,
      },
      constraintField: planned?.field ?? null,
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

function parserOf(
  context: GatewayContext,
  { parser, calls, id }: PlanInput,
  insideThink: boolean,
  { tools, choice }: { tools: ToolTable | null; choice: number },
): OutputParser {
  if (calls === null || tools === null) return createParser(parser, insideThink);
  const { parallel } = calls;
  const callIds = (call: number): string => toolCallId(id, choice, call);
  const made = createParser(parser, insideThink, { name: context.toolParser, tools, parallel, callIds });
  return new ToolOutcomeParser(made, (outcome) => context.metrics.count('guildhall_tool_answers_total', { outcome }));
}

/** Token that ends the think block in which the answer to a prompt begins, where one is told from the answer. */
function thinkEndOf({ assets }: GatewayContext, { parser }: PlanInput, prompt: PlannedPrompt): number | null {
  return prompt.insideThink && parser !== 'none' ? assets.tokenizer.tokenToId('</think>') : null;
}

function assemblerOptions(
  context: GatewayContext,
  input: PlanInput,
  prompt: PlannedPrompt,
  stop: router.StopConditions,
  parser: OutputParser,
): ChoicePlan['assembler'] {
  const { tokenizer, generation } = context.assets;
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
    thinkEndId: thinkEndOf(context, input, prompt),
  };
}
