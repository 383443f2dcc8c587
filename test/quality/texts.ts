import { ChatTemplate, loadGenerationConfig, Tokenizer } from '@guildhall/model';
import { evalRows, type EvalRow } from '../harness/tiny-eval.ts';
import { TINY } from '../harness/service-process.ts';

/** Prompts of the held-out conversations of `models/tiny`, as token ids. */
export interface EvalTexts {
  prompts: Int32Array[];
  /** Ids that end an answer. */
  ends: ReadonlySet<number>;
}

/** @param limit rows of each set; the first ones. */
export async function evalTexts(sets: readonly ('chat' | 'recall')[], limit: number): Promise<EvalTexts> {
  const template = ChatTemplate.load(TINY);
  const tokenizer = Tokenizer.load(TINY);
  const rows = sets.flatMap((set) => evalRows(set).slice(0, limit));
  const prompts = await Promise.all(rows.map((row) => encode(template, tokenizer, row)));
  return { prompts, ends: new Set(loadGenerationConfig(TINY, tokenizer).eosIds) };
}

async function encode(template: ChatTemplate, tokenizer: Tokenizer, row: EvalRow): Promise<Int32Array> {
  const text = template.render({
    messages: row.messages as never,
    tools: row.tools ?? null,
    addGenerationPrompt: true,
    enable_thinking: row.enable_thinking,
  });
  return Int32Array.from(await tokenizer.encode(text));
}
