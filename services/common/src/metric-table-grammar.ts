import { LATENCY, type MetricInfo, SHORT } from './metric-info.ts';

/** Metrics of grammars that answers are held to, and of tool calls that are read from them. */
export const GRAMMAR_METRICS = {
  guildhall_grammar_requests_total: {
    type: 'counter',
    help: 'Requests with a grammar, by what came of it: kept (compiled before), shared (another request was having it compiled), compiled, refused, overloaded.',
    labels: ['outcome'],
    services: ['router'],
  },
  guildhall_grammar_compile_seconds: {
    type: 'histogram',
    help: 'Compilation of a grammar that answers are held to, by outcome: compiled or refused.',
    labels: ['outcome'],
    services: ['router'],
    buckets: LATENCY,
  },
  guildhall_grammar_mask_seconds: {
    type: 'histogram',
    help: 'How long steps with sequences that are held to grammars waited for the masks of their tokens; their count is that of such steps.',
    labels: [],
    services: ['router'],
    buckets: SHORT,
  },
  guildhall_tool_answers_total: {
    type: 'counter',
    help: 'Choices of requests with tools by how they ended: calls, text (none was made), cut (in the middle of a call), malformed (the markup of a call is part of the text).',
    labels: ['outcome'],
    services: ['gateway'],
  },
} as const satisfies Record<string, MetricInfo>;
