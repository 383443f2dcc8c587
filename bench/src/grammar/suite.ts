import { modelFiles } from '../models/ensure.ts';
import { makeRow } from '../report.ts';
import { ServedStack } from '../serving/stack.ts';
import { latencies, runStreams } from '../serving/streams.ts';
import type { BenchContext, Suite } from '../suite.ts';

const STREAMS = 32;
const PROMPT_TOKENS = 64;
const MAX_TOKENS = 64;
/** Share of the time without a grammar in which a step with one must be done. */
const TARGET = 0.95;

/** An answer of this schema is longer than any stream here, and has strings, numbers, choices and nesting. */
const SCHEMA = {
  type: 'array',
  minItems: 500,
  items: {
    type: 'object',
    properties: {
      name: { type: 'string' },
      kind: { enum: ['small', 'large', 'none'] },
      count: { type: 'integer', minimum: 0, maximum: 1000 },
      place: { type: 'object', properties: { x: { type: 'number' }, y: { type: 'number' } }, required: ['x', 'y'] },
    },
    required: ['name', 'kind', 'count', 'place'],
    additionalProperties: false,
  },
};

/** How the streams of a round are held: not at all, all of them by one schema, or half of them. */
const MODES = [
  { name: 'free', constrained: 0, note: 'no grammar' },
  { name: 'half', constrained: 2, note: 'every other stream held to a JSON schema' },
  { name: 'schema', constrained: 1, note: 'every stream held to a JSON schema' },
] as const;

type Mode = (typeof MODES)[number];

/** What a mask for each sampled token costs a decode step. */
export const grammarSuite: Suite = {
  name: 'grammar',
  about: 'time of a decode step of 32 streams without a grammar and with JSON schemas; experts in the router',
  async run(context) {
    for (const name of context.options.models) {
      const group = `grammar/${name}`;
      if (MODES.every((mode) => !context.wants(`${group}/step-${mode.name}`))) continue;
      const { root, threads, size } = context.options;
      // Masks have a bit for each token: the vocabulary is as large as that of the models that people use.
      const options = { ...context.options, size: size === 'bench' ? ('multilingual' as const) : size };
      const files = modelFiles(options, name, context.progress);
      const stack = await ServedStack.start({ root, model: files.dir, weights: 'bf16', threads, profile: false });
      try {
        report(context, group, await measure(context, stack, group, files.spec.text.vocab_size));
      } finally {
        await stack.stop();
        stack.dispose();
      }
    }
  },
};

/** Milliseconds of a token, for each mode and run; the modes take turns within a run. */
async function measure(
  context: BenchContext,
  stack: ServedStack,
  group: string,
  vocab: number,
): Promise<ReadonlyMap<string, number[]>> {
  const { runs } = context.options;
  const values = new Map<string, number[]>(MODES.map(({ name }) => [name, []]));
  // The first round warms everything, and compiles the grammar.
  for (let run = 0; run <= runs; run++) {
    context.progress.update(group, run / (runs + 1));
    for (const mode of run % 2 === 0 ? MODES : MODES.toReversed()) {
      const ms = await tokenMs(stack, mode, vocab);
      if (run > 0) values.get(mode.name)?.push(ms);
    }
  }
  return values;
}

/** Mean time between the tokens of all streams of a round. */
async function tokenMs({ url, model }: ServedStack, { constrained }: Mode, vocab: number): Promise<number> {
  const held = (index: number): boolean => constrained > 0 && index % constrained === 0;
  const streams = await runStreams({
    url,
    model,
    count: STREAMS,
    promptTokens: PROMPT_TOKENS,
    maxTokens: MAX_TOKENS,
    vocab,
    body: (index) => (held(index) ? { ignore_eos: false, guided_json: SCHEMA } : {}),
  });
  const { between } = latencies(streams);
  return between.reduce((sum, ms) => sum + ms, 0) / between.length;
}

function report(context: BenchContext, group: string, values: ReadonlyMap<string, number[]>): void {
  for (const { name, note } of MODES) {
    const peer = name === 'free' ? null : { name: 'no grammar, same round', values: values.get('free') ?? [] };
    context.add(
      makeRow({
        name: `${group}/step-${name}`,
        unit: 'ms',
        values: values.get(name) ?? [],
        better: 'less',
        peer,
        target: name === 'free' ? null : TARGET,
        note: `${note}; ${STREAMS} streams of ${MAX_TOKENS} tokens`,
      }),
    );
  }
}
