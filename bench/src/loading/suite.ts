import { makeRow } from '../report.ts';
import type { BenchContext, Suite } from '../suite.ts';
import { type LoadMode, LoadingRig, type Measured } from './rig.ts';

/** Time of one run of each mode, milliseconds. */
const RUN_MS = 4000;
/** How much longer forwards may take while experts are loaded. */
const LIMIT = 3;
const MODES = ['full speed', 'paced'] as const;
const QUANTILES = [
  ['p50', 0.5],
  ['p99', 0.99],
] as const;

/** Decode of a worker while it loads experts, beside the same without loading. */
export const loadingSuite: Suite = {
  name: 'loading',
  about: 'decode forwards of a worker that loads experts meanwhile, beside one that does not',
  async run(context) {
    if (!MODES.some((mode) => QUANTILES.some(([name]) => context.wants(rowName(mode, name))))) return;
    const rig = await LoadingRig.start(context.options.threads);
    try {
      await rig.measure(RUN_MS / 4, 'none');
      const idle: Measured[] = [];
      const loading = { 'full speed': [] as Measured[], paced: [] as Measured[] };
      for (let run = 0; run < context.options.runs; run++) {
        context.progress.update(`run ${run + 1}`, run / context.options.runs);
        idle.push(await rig.measure(RUN_MS, 'none'));
        for (const mode of MODES) loading[mode].push(await rig.measure(RUN_MS, mode));
      }
      for (const mode of MODES) addRows(context, mode, loading[mode], idle);
    } finally {
      rig.stop();
    }
  },
};

function rowName(mode: LoadMode, quantile: string): string {
  return `loading/${mode.replace(' ', '-')}/${quantile}`;
}

function addRows(context: BenchContext, mode: LoadMode, loading: readonly Measured[], idle: readonly Measured[]): void {
  for (const [name, share] of QUANTILES) {
    const of = (measured: readonly Measured[]): number[] =>
      measured.map(({ forwardMs }) => forwardMs[Math.floor(share * (forwardMs.length - 1))] ?? 0);
    const rates = loading.map(({ bytesPerSecond }) => (bytesPerSecond / 2 ** 20).toFixed(0)).join(', ');
    context.add(
      makeRow({
        name: rowName(mode, name),
        unit: 'ms',
        values: of(loading),
        better: 'less',
        peer: { name: 'the same worker, nothing loaded, same run', values: of(idle) },
        target: mode === 'paced' ? 1 / LIMIT : null,
        note: `one row of 8 of 16 experts (2048 x 768, bf16) a forward; loads beside it: ${rates} MiB/s`,
      }),
    );
  }
}
