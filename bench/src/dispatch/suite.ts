import { makeRow, median } from '../report.ts';
import type { BenchContext, Suite } from '../suite.ts';
import { DispatchRig } from './rig.ts';
import { SHAPE } from './shape.ts';

/** One size of message, each way, to each of two workers. */
interface Cell {
  kib: number;
  repetitions: number;
  /** Microseconds of an echo through four servers on an earlier, like machine: what the limit was set by. */
  fourServersUs: number;
}

const CELLS: Cell[] = [
  { kib: 8, repetitions: 300, fourServersUs: 163 },
  { kib: 64, repetitions: 200, fourServersUs: 281 },
  { kib: 512, repetitions: 60, fourServersUs: 1527 },
];
/** How much longer than an echo a layer's dispatch and combine may take. */
const LIMIT = 1.3;

/** Dispatch and combine of one layer with two worker processes, beside an echo through the same processes. */
export const dispatchSuite: Suite = {
  name: 'dispatch',
  about: 'dispatch and combine of a layer with two workers on loopback, beside an echo of the same bytes',
  async run(context) {
    const cells = CELLS.filter(
      ({ kib }) => context.wants(`dispatch/${kib}KiB`) || context.wants(`dispatch/${kib}KiB-echo`),
    );
    if (cells.length === 0) return;
    const rig = await DispatchRig.start(context.options.threads);
    try {
      await rig.layers(4, 1000);
      await rig.echoes(8 << 10, 1000);
      for (const [i, cell] of cells.entries()) {
        context.progress.update(`dispatch of ${cell.kib} KiB`, i / cells.length);
        await measureCell(context, rig, cell);
      }
    } finally {
      await rig.stop();
    }
  },
};

async function measureCell(context: BenchContext, rig: DispatchRig, cell: Cell): Promise<void> {
  const { kib, repetitions, fourServersUs } = cell;
  const bytes = kib << 10;
  const tokens = bytes / (2 * SHAPE.hidden);
  const echoes: number[] = [];
  const layers: number[] = [];
  await rig.layers(tokens, repetitions / 2);
  await rig.echoes(bytes, repetitions / 2);
  for (let run = 0; run < context.options.runs; run++) {
    echoes.push(median(await rig.echoes(bytes, repetitions)));
    layers.push(median(await rig.layers(tokens, repetitions)));
  }
  const shared = { unit: 'µs', values: layers, better: 'less', target: 1 / LIMIT } as const;
  const against = (name: string, values: number[]): { name: string; values: number[] } => ({ name, values });
  context.add(
    makeRow({
      ...shared,
      name: `dispatch/${kib}KiB`,
      peer: against('grpc-js echo, four servers (recorded figure)', [fourServersUs]),
      note: `${kib} KiB each way to each of two workers; median of ${repetitions} layers a run`,
    }),
  );
  context.add(
    makeRow({
      ...shared,
      name: `dispatch/${kib}KiB-echo`,
      peer: against('grpc-js echo, two servers, same run', echoes),
      target: null,
      note: 'an echo has neither plan, arithmetic nor threads',
    }),
  );
}
