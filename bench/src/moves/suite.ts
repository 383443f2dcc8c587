import { Cluster } from '@guildhall/test/harness';
import { makeRow } from '../report.ts';
import type { BenchContext, Suite } from '../suite.ts';
import { CHANGES, settled } from './changes.ts';
import { EndlessStreams, type Window } from './load.ts';

const STREAMS = 32;
const WORKERS = 3;
/** p99 between two tokens during a change: three times that of before, at most. */
const P99_TARGET = 1 / 3;

/** Workers that come, go, move and die under running streams. */
export const movesSuite: Suite = {
  name: 'moves',
  about: `p99 between two tokens of ${STREAMS} HTTP streams while workers are added, drained, restarted, killed`,
  async run(context) {
    for (const change of CHANGES) {
      const group = `moves/tiny/${change.name}`;
      if (!context.wants(`${group}/p99`)) continue;
      context.progress.update(`${group}: ${change.about}`, 0);
      const seen = { before: [] as Window[], during: [] as Window[], after: [] as Window[] };
      let compared = 0;
      for (let run = 0; run < context.options.runs; run++) {
        const cluster = await Cluster.start({ weights: 'bf16', workers: WORKERS, ...change.cluster });
        try {
          const streams = new EndlessStreams(cluster, STREAMS);
          await settled(cluster, WORKERS, () => streams.warm);
          const windowMs = context.options.size === 'bench' ? 10_000 : 3000;
          seen.before.push(await streams.during(windowMs, async () => undefined));
          seen.during.push(await streams.during(1000, () => change.run(cluster)));
          seen.after.push(await streams.during(windowMs, async () => undefined));
          await streams.stop();
          compared += streams.compared;
          if (streams.dropped > 0) throw new Error(`${streams.dropped} streams broke: ${streams.problem}`);
          if (streams.wrong > 0) throw new Error(`${streams.wrong} of ${streams.compared} answers differ`);
        } finally {
          await cluster.stop();
        }
      }
      addRows(context, group, seen, `${change.about}; ${compared} answers equal, none dropped`);
    }
  },
};

function addRows(
  context: BenchContext,
  group: string,
  { before, during, after }: Record<'before' | 'during' | 'after', Window[]>,
  note: string,
): void {
  const peerOf = (pick: (window: Window) => number) => ({ name: 'before', values: before.map(pick) });
  const row = (name: string, unit: string, values: number[], pick: (window: Window) => number, target?: number): void =>
    context.add(
      makeRow({
        name: `${group}/${name}`,
        unit,
        values,
        better: unit === 'ms' ? 'less' : 'more',
        peer: peerOf(pick),
        target: target ?? null,
        note,
      }),
    );
  row(
    'p99',
    'ms',
    during.map(({ p99 }) => p99),
    ({ p99 }) => p99,
    P99_TARGET,
  );
  row(
    'longest',
    'ms',
    during.map(({ longest }) => longest),
    ({ longest }) => longest,
  );
  row(
    'rate',
    'tokens/s',
    during.map(({ tokensPerSecond }) => tokensPerSecond),
    (window) => window.tokensPerSecond,
  );
  row(
    'p99-after',
    'ms',
    after.map(({ p99 }) => p99),
    ({ p99 }) => p99,
  );
}
