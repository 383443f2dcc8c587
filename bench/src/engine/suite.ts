import { join } from 'node:path';
import { CONTEST_WEIGHTS, modelFiles, peerFile, type ModelFiles } from '../models/ensure.ts';
import { missingRow } from '../report.ts';
import type { BenchContext, Suite } from '../suite.ts';
import { LlamaBench } from '../subjects/llama-bench.ts';
import { ensurePeer, ensurePinning } from '../subjects/peer-install.ts';
import type { SubjectSpec } from '../subjects/protocol.ts';
import { Subject } from '../subjects/subject.ts';
import { addCeilings } from './ceilings.ts';
import { cellsOf, type Cell } from './cells.ts';
import { measureCell, type Contest } from './measure.ts';

const DEPTH = 8192;
const SEQUENCES = 32;

/** Our engine against the peer on the same weights: prefill, decode, decode at depth, many sequences. */
export const engineSuite: Suite = {
  name: 'engine',
  about: 'prefill and decode of the bench models beside llama.cpp on the same weights, with the ceilings',
  async run(context) {
    addCeilings(context);
    for (const name of context.options.models) {
      const cells = cellsOf(name, context.options.size);
      for (const weights of context.options.weights ?? CONTEST_WEIGHTS) {
        const wanted = cells.filter((cell) => context.wants(`${name}/${weights}/${cell.name}`));
        if (wanted.length > 0)
          await runGroup(context, modelFiles(context.options, name, context.progress), weights, wanted);
      }
    }
  },
};

/** The cells of one model in one weight format: both engines are loaded once and stay until the last cell. */
async function runGroup(context: BenchContext, files: ModelFiles, weights: string, cells: Cell[]): Promise<void> {
  const { progress } = context;
  const group = `${files.spec.name}/${weights}`;
  progress.update(`${group}: loading`, 0);
  let ours: Subject;
  try {
    ours = await Subject.start('./guildhall.ts', subjectSpec(context, files, weights, files.dir));
  } catch (error) {
    for (const cell of cells) addMissing(context, group, cell, weights, error);
    return;
  }
  const peer = await startPeer(context, files, weights).catch(async (error: unknown) => {
    await ours.close();
    throw error;
  });
  const contest: Contest = { context, spec: files.spec, group, weights, ours, peer };
  try {
    for (const [i, cell] of cells.entries()) {
      progress.update(`${group}: ${cell.name}`, i / cells.length);
      context.add(await measureCell(contest, cell));
    }
  } finally {
    await Promise.all([ours.close(), peer?.close()]);
  }
}

function subjectSpec(context: BenchContext, files: ModelFiles, weights: string, model: string): SubjectSpec {
  const { threads, size } = context.options;
  const vocab = files.spec.text.vocab_size;
  return { model, weights, threads, size, vocab, depth: DEPTH, sequences: SEQUENCES, cacheDir: files.dir };
}

async function startPeer(
  context: BenchContext,
  files: ModelFiles,
  weights: string,
): Promise<Subject | LlamaBench | null> {
  const { options, progress } = context;
  if (!options.peer) return null;
  const file = peerFile(files, weights, progress);
  if (file === null) return null;
  if (options.llamaBench !== null) return new LlamaBench(options.llamaBench, file, options.threads);
  const source = join(options.root, 'bench', 'peer');
  const home = ensurePeer(source, join(options.root, '.guildhall', 'bench-peer'), progress);
  const pinning = ensurePinning(source, home, progress);
  return Subject.start('./llama-cpp.ts', subjectSpec(context, files, weights, file), {
    GUILDHALL_BENCH_PEER: home,
    ...(pinning === null ? {} : { LD_PRELOAD: pinning }),
  });
}

function addMissing(context: BenchContext, group: string, cell: Cell, weights: string, error: unknown): void {
  const [why = ''] = (error instanceof Error ? error.message : String(error)).split('\n');
  const target = cell.targets[weights] ?? null;
  const stretch = cell.stretches[weights] ?? null;
  context.add(
    missingRow({ name: `${group}/${cell.name}`, unit: 'tokens/s', target, stretch }, `not available: ${why}`),
  );
}
