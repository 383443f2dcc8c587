import { join } from 'node:path';
import { modelFiles } from '../models/ensure.ts';
import type { BenchContext, Suite } from '../suite.ts';
import { attachCharts } from './charts.ts';
import { prefixTokens, type Subject } from './flags.ts';
import { measureGoodput } from './replay.ts';
import { measureTtft } from './ttft.ts';

/** Ids of the plain tokens of `models/tiny`. */
const TINY_TOKENS = 2900;

/** Time to the first token of shared prefixes from wherever they are, and a trace of many users. */
export const prefixSuite: Suite = {
  name: 'prefix',
  about: 'first token of a shared prefix: cold, hit, pulled, from host and disk; goodput of a trace of many users',
  async run(context) {
    const subjects = subjectsOf(context);
    for (const subject of subjects) await measureTtft(context, subject);
    const [first] = subjects;
    if (first !== undefined) await measureGoodput(context, first);
    await attachCharts(context);
  },
};

/** `tiny`, and the hybrid bench model where it is among the models asked for. */
function subjectsOf(context: BenchContext): Subject[] {
  const { options, progress } = context;
  const { root, size } = options;
  const all: Subject[] = [];
  for (const weights of options.weights ?? ['bf16']) {
    const tiny = { name: `tiny/${weights}`, model: join(root, 'models', 'tiny'), vocab: TINY_TOKENS };
    all.push({ ...tiny, weights, prefixTokens: prefixTokens('tiny', size) });
    const name = `qwen35moe/${weights}`;
    if (!options.models.includes('qwen35moe') || !context.wants(`prefix/${name}/ttft/cold`)) continue;
    const { dir, spec } = modelFiles(options, 'qwen35moe', progress);
    const tokens = prefixTokens('hybrid', size);
    all.push({ name, model: dir, weights, vocab: spec.text.vocab_size, prefixTokens: tokens });
  }
  return all;
}
