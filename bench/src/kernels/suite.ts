import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { addCeilings } from '../engine/ceilings.ts';
import { makeRow, missingRow, type BenchRow } from '../report.ts';
import type { BenchContext, Suite } from '../suite.ts';
import { KERNEL_WEIGHTS, kernelCells, type KernelCell } from './cells.ts';

/** What native/bench/kernels prints. */
interface KernelTimes {
  /** Of one call. */
  bytes: number;
  flops: number;
  /** Seconds of one call, for each run. */
  seconds: number[];
  /** The ceiling around each run, in bytes or operations per second; 0 where the CPU has no such units. */
  ceilings: number[];
}

/** Single kernels on the shapes of the hybrid bench model, as shares of bandwidth or arithmetic peak. */
export const kernelsSuite: Suite = {
  name: 'kernels',
  about: 'matrix products of every weight format, experts, attention and delta rule against the ceilings',
  async run(context) {
    addCeilings(context);
    const cells = kernelCells(context.options.weights ?? KERNEL_WEIGHTS).filter(({ name }) => context.wants(name));
    for (const [i, cell] of cells.entries()) {
      context.progress.update(cell.name, i / cells.length);
      context.add(await measure(context, cell));
    }
  },
};

async function measure({ options, machine }: BenchContext, cell: KernelCell): Promise<BenchRow> {
  const program = join(options.root, 'native', 'build', 'kernel_bench');
  if (!existsSync(program)) throw new Error(`${program} is not built: run native/build.sh`);
  const { threads, runs } = options;
  const parameters = Object.entries({ ...cell.parameters, threads, runs, limit: cell.limit });
  const words = parameters.map(([key, value]) => `${key}=${value}`);
  const moves = cell.limit === 'read';
  const unit = moves ? 'GB/s' : cell.limit === 'vnni' ? 'GOP/s' : 'GFLOP/s';
  try {
    const { stdout } = await promisify(execFile)(program, [cell.kind, ...words], { timeout: 120_000 });
    return rowOf(cell, unit, JSON.parse(stdout) as KernelTimes);
  } catch (error) {
    const [why = ''] = (error instanceof Error ? error.message : String(error)).split('\n').slice(-3);
    return missingRow({ name: cell.name, unit, target: cell.target }, `not measured on ${machine.cpu}: ${why}`);
  }
}

function rowOf(cell: KernelCell, unit: string, times: KernelTimes): BenchRow {
  const moves = cell.limit === 'read';
  const values = times.seconds.map((seconds) => (moves ? times.bytes : times.flops) / seconds / 1e9);
  const ceilings = times.ceilings.filter((ceiling) => ceiling > 0).map((ceiling) => ceiling / 1e9);
  const name = moves ? 'read bandwidth' : `${cell.limit} peak`;
  const known = ceilings.length === values.length;
  return makeRow({
    name: cell.name,
    unit,
    values,
    // The ceiling stands in the peer's place: the ratio is the share of it.
    peer: known ? { name, values: ceilings } : null,
    limit: known ? { name, unit, used: values, ceilings } : null,
    target: cell.target,
    limitTarget: cell.target,
  });
}
