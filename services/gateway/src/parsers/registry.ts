import { type OutputParser, PassthroughParser } from './parser.ts';
import { ReasoningParser } from './reasoning-parser.ts';

/** Names of the parsers, as --reasoning-parser takes them. */
export const PARSER_NAMES = ['qwen3', 'none'] as const;

export type ParserName = (typeof PARSER_NAMES)[number];

const PARSERS: Record<ParserName, (insideThink: boolean) => OutputParser> = {
  qwen3: (insideThink) => new ReasoningParser(insideThink),
  none: () => new PassthroughParser(),
};

/** A parser for one choice. `insideThink`: the prompt ends in an open think block. */
export function createParser(name: ParserName, insideThink: boolean): OutputParser {
  return PARSERS[name](insideThink);
}
