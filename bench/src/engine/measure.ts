import { ForeignLoad } from '../foreign.ts';
import { unitsOf } from '../kernels/cells.ts';
import type { ModelSpec } from '../models/specs.ts';
import { makeRow, type BenchRow } from '../report.ts';
import type { BenchContext } from '../suite.ts';
import type { LlamaBench } from '../subjects/llama-bench.ts';
import type { Work } from '../subjects/protocol.ts';
import type { Subject } from '../subjects/subject.ts';
import { DECODE_LIMIT_TARGET, promptFlops, stepBytes, tokensOf, type Cell } from './cells.ts';

/** Both engines with the same weights. */
export interface Contest {
  context: BenchContext;
  spec: ModelSpec;
  /** `model/weights`. */
  group: string;
  weights: string;
  ours: Subject;
  peer: Subject | LlamaBench | null;
}

/** Cores that other processes may use during a timing before it is repeated, and how often. */
const FOREIGN_CORES = 0.05;
const REPEATS = 3;

/** Figures of the rounds of one cell. */
interface Rounds {
  ours: number[];
  peer: number[];
  /** Ceiling around our run of each round. */
  ceilings: number[];
  /** Most that other processes used during a run that counts. */
  foreign: number;
}

/**
 * Times one cell. Each round is probe, ours, probe, peer, so that both engines and the ceiling see the same state of the
 * machine. A timing that others disturbed is taken again.
 */
export async function measureCell(contest: Contest, cell: Cell): Promise<BenchRow> {
  const { context, ours, peer, weights, group } = contest;
  const { work } = cell;
  await ours.prepare(work);
  const peerCan = peer !== null && (await peer.prepare(work)) !== 'unable';
  const rounds = await takeRounds(contest, work, peerCan ? peer : null);
  const prefill = work.kind === 'prefill';
  const used = prefill ? promptWork(contest, rounds.ours) : stepWork(contest, work, rounds.ours);
  const limited = !prefill && context.options.size === 'bench' && cell.targets[weights] !== undefined;
  return makeRow({
    name: `${group}/${cell.name}`,
    unit: 'tokens/s',
    values: rounds.ours,
    peer: peerCan ? { name: peer.info.engine, values: rounds.peer } : null,
    limit: used === null ? null : { ...used, ceilings: rounds.ceilings },
    target: context.options.peer ? (cell.targets[weights] ?? null) : null,
    limitTarget: limited ? DECODE_LIMIT_TARGET : null,
    stretch: cell.stretches[weights] ?? null,
    note: noteOf(rounds),
  });
}

async function takeRounds(contest: Contest, work: Work, peer: Contest['peer']): Promise<Rounds> {
  const { context, ours } = contest;
  const { runs } = context.options;
  const pids = [process.pid, ours.pid, peer?.pid ?? process.pid];
  const load = new ForeignLoad(() => [...new Set(pids)]);
  const rounds: Rounds = { ours: [], peer: [], ceilings: [], foreign: 0 };
  const timed = async (subject: Subject | LlamaBench): Promise<number> => {
    for (let attempt = 0; ; attempt++) {
      load.restart();
      const { seconds } = await subject.run(work);
      const foreign = subject.isolated ? load.cores() : 0;
      if (foreign > FOREIGN_CORES && attempt < REPEATS) continue;
      rounds.foreign = Math.max(rounds.foreign, foreign);
      return tokensOf(work) / seconds;
    }
  };
  for (let run = 0; run < runs; run++) {
    const before = ceilingOf(contest, work);
    rounds.ours.push(await timed(ours));
    rounds.ceilings.push((before + ceilingOf(contest, work)) / 2);
    if (peer !== null) rounds.peer.push(await timed(peer));
  }
  return rounds;
}

/** Ceiling of a cell right now: GB/s for decodes, GFLOP/s of the weight format's units for prompts. */
function ceilingOf({ context, weights }: Contest, work: Work): number {
  const { bandwidth, options } = context;
  if (work.kind !== 'prefill') return bandwidth.read(options.threads);
  return bandwidth.peak(unitsOf(weights), options.threads) ?? NaN;
}

function promptWork({ spec, weights }: Contest, rates: number[]): { name: string; unit: string; used: number[] } {
  const flops = promptFlops(spec);
  return { name: `${unitsOf(weights)} peak`, unit: 'GFLOP/s', used: rates.map((rate) => (rate * flops) / 1e9) };
}

function stepWork(
  { spec, ours }: Contest,
  work: Exclude<Work, { kind: 'prefill' }>,
  rates: number[],
): { name: string; unit: string; used: number[] } | null {
  const { bytes } = ours.info;
  if (bytes === null) return null;
  const sequences = work.kind === 'batch' ? work.sequences : 1;
  const moved = stepBytes(spec, bytes, sequences, work.depth);
  return { name: 'read bandwidth', unit: 'GB/s', used: rates.map((rate) => ((rate / sequences) * moved) / 1e9) };
}

function noteOf({ foreign }: Rounds): string | null {
  return foreign > FOREIGN_CORES ? `other processes used up to ${(foreign * 100).toFixed(0)} % of a core` : null;
}
