import { HermesParser } from './hermes-parser.ts';
import { ChainedParser, type OutputParser, PassthroughParser } from './parser.ts';
import { Qwen3XmlParser, type ToolParserOptions } from './qwen3-xml-parser.ts';
import { ReasoningParser } from './reasoning-parser.ts';

/** Names of the parsers of think blocks, as --reasoning-parser takes them. */
export const PARSER_NAMES = ['qwen3', 'none'] as const;

export type ParserName = (typeof PARSER_NAMES)[number];

/** Names of the parsers of tool calls, as --tool-call-parser takes them. qwen3_coder is another name of qwen3_xml. */
export const TOOL_PARSER_NAMES = ['qwen3_xml', 'qwen3_coder', 'hermes', 'none'] as const;

export type ToolParserName = (typeof TOOL_PARSER_NAMES)[number];

const PARSERS: Record<ParserName, (insideThink: boolean) => OutputParser> = {
  qwen3: (insideThink) => new ReasoningParser(insideThink),
  none: () => new PassthroughParser(),
};

const TOOL_PARSERS: Record<ToolParserName, (options: ToolParserOptions) => OutputParser | null> = {
  qwen3_xml: (options) => new Qwen3XmlParser(options),
  qwen3_coder: (options) => new Qwen3XmlParser(options),
  hermes: (options) => new HermesParser(options),
  none: () => null,
};

/** What tool calls of an answer are parsed by. */
export interface ToolParsing extends ToolParserOptions {
  name: ToolParserName;
}

/**
 * A parser for one choice.
 * @param insideThink the prompt ends in an open think block.
 * @param tools null where no calls are expected: what looks like one is text.
 */
export function createParser(name: ParserName, insideThink: boolean, tools: ToolParsing | null = null): OutputParser {
  const parser = PARSERS[name](insideThink);
  const calls = tools === null ? null : TOOL_PARSERS[tools.name](tools);
  return calls === null ? parser : new ChainedParser(parser, calls);
}
