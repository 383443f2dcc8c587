import { renderLineChart } from '../charts/line-chart.ts';
import { stepBytes } from '../engine/cells.ts';
import { modelFiles, type ModelFiles } from '../models/ensure.ts';
import type { ModelName } from '../models/specs.ts';
import { makeRow, median } from '../report.ts';
import type { BenchContext, Suite } from '../suite.ts';
import { Subject } from '../subjects/subject.ts';
import { measureBeside } from './beside.ts';
import { BASE_DEPTH, depthName, depthsOf, stepsAt } from './depths.ts';

/** Tokens per second at each depth, one for each round, and the ceiling around each. */
interface Curve {
  model: ModelName;
  rates: Map<number, number[]>;
}

const TITLES: Record<ModelName, string> = {
  qwen35moe: 'hybrid: 12 DeltaNet and 4 attention layers',
  qwen3moe: 'twin: 16 attention layers',
};

/** What long contexts cost: decode by depth in both bench models, and streams beside a long prompt. */
export const longcontextSuite: Suite = {
  name: 'longcontext',
  about: 'decode by depth of context up to 256K, hybrid beside full attention; streams beside a long prompt',
  async run(context) {
    for (const weights of context.options.weights ?? ['bf16']) {
      const group = `longcontext/${weights}`;
      const curves: Curve[] = [];
      for (const name of context.options.models) {
        if (!context.wants(`${group}/${name}/decode-${depthName(deepest(context))}`)) continue;
        const files = modelFiles(context.options, name, context.progress);
        curves.push(await measureCurve(context, files, weights, group));
      }
      if (curves.length > 0) await addComparison(context, curves, group, weights);
    }
    await measureBeside(context);
  },
};

function deepest(context: BenchContext): number {
  return depthsOf(context.options.size).at(-1) ?? BASE_DEPTH;
}

/** Every round times all depths, so that they see the same state of the machine. */
async function measureCurve(context: BenchContext, files: ModelFiles, weights: string, group: string): Promise<Curve> {
  const { options, progress, bandwidth } = context;
  const { threads, size, runs } = options;
  const { spec, dir } = files;
  const depths = depthsOf(size);
  progress.update(`${group}/${spec.name}: loading and filling`, 0);
  const subject = await Subject.start('./guildhall.ts', {
    model: dir,
    weights,
    threads,
    size,
    vocab: spec.text.vocab_size,
    depth: deepest(context),
    sequences: 1,
    cacheDir: dir,
    randomKv: true,
  });
  const rates = new Map<number, number[]>(depths.map((depth) => [depth, []]));
  const ceilings = new Map<number, number[]>(depths.map((depth) => [depth, []]));
  try {
    for (let run = 0; run < runs; run++) {
      for (const depth of depths) {
        progress.update(`${group}/${spec.name}: decode at ${depthName(depth)}`, run / runs);
        const work = { kind: 'decode', depth, steps: stepsAt(depth) } as const;
        await subject.prepare(work);
        // Small models have figures that mean nothing: no ceiling is looked for.
        const before = size === 'bench' ? bandwidth.read(threads) : NaN;
        const { seconds } = await subject.run(work);
        rates.get(depth)?.push(work.steps / seconds);
        if (size === 'bench') ceilings.get(depth)?.push((before + bandwidth.read(threads)) / 2);
      }
    }
    const { bytes } = subject.info;
    for (const depth of depths) addDepth(context, { files, group, depth, rates, ceilings, bytes });
  } finally {
    await subject.close();
  }
  return { model: spec.name, rates };
}

interface DepthFigures {
  files: ModelFiles;
  group: string;
  depth: number;
  rates: Curve['rates'];
  ceilings: Map<number, number[]>;
  bytes: Subject['info']['bytes'];
}

function addDepth(context: BenchContext, { files, group, depth, rates, ceilings, bytes }: DepthFigures): void {
  const { spec } = files;
  const values = rates.get(depth) ?? [];
  const moved = bytes === null || spec.size === 'small' ? null : stepBytes(spec, bytes, 1, depth);
  context.add(
    makeRow({
      name: `${group}/${spec.name}/decode-${depthName(depth)}`,
      unit: 'tokens/s',
      values,
      peer: { name: `the same at depth ${depthName(BASE_DEPTH)}`, values: rates.get(BASE_DEPTH) ?? [] },
      limit:
        moved === null
          ? null
          : {
              name: 'read bandwidth',
              unit: 'GB/s',
              used: values.map((rate) => (rate * moved) / 1e9),
              ceilings: ceilings.get(depth) ?? [],
            },
      note: 'pages hold seeded random K and V',
    }),
  );
}

function relativeTo(curve: Curve, depth: number): number[] {
  const base = curve.rates.get(BASE_DEPTH) ?? [];
  return (curve.rates.get(depth) ?? []).map((rate, i) => rate / (base[i] ?? NaN));
}

/** How much more of its rate the hybrid keeps than its twin, and the curves as pictures. */
async function addComparison(context: BenchContext, curves: Curve[], group: string, weights: string): Promise<void> {
  const { options, machine } = context;
  const [hybrid, twin] = (['qwen35moe', 'qwen3moe'] as const).map((name) => curves.find(({ model }) => model === name));
  const deep = deepest(context);
  if (hybrid !== undefined && twin !== undefined) {
    context.add(
      makeRow({
        name: `${group}/hybrid-over-twin-${depthName(deep)}`,
        unit: 'of its own rate at 1K',
        values: relativeTo(hybrid, deep),
        peer: { name: 'the twin', values: relativeTo(twin, deep) },
        note: 'ratio: what the hybrid keeps of its rate over what the twin keeps',
      }),
    );
  }
  const subtitle = `${options.size} models, ${weights}, ${machine.cpu}, ${options.threads} threads; random K and V`;
  for (const relative of [false, true]) {
    const of = (curve: Curve, depth: number): number =>
      median(relative ? relativeTo(curve, depth) : (curve.rates.get(depth) ?? []));
    const png = await renderLineChart({
      title: relative ? 'Decode rate relative to depth 1K' : 'Decode rate by depth of context',
      subtitle,
      x: { title: 'tokens of context', scale: 'log2', ticks: depthsOf(options.size), labels: 'binary' },
      y: relative
        ? { title: 'of the rate at 1K', scale: 'linear', labels: 'percent' }
        : { title: 'tokens per second', scale: 'linear' },
      series: curves.map((curve) => ({
        name: TITLES[curve.model],
        points: [...curve.rates.keys()].map((depth) => ({ x: depth, y: of(curve, depth) })),
      })),
    });
    context.attach(`${weights}-${relative ? 'relative' : 'rate'}.png`, png);
  }
}
