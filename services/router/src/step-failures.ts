import { fail, type GuildhallError } from '@guildhall/common';
import { nameExperts } from './experts/job.ts';
import { type ExpertView, missingExperts } from './experts/placement-view.ts';
import type { WorkerLink } from './experts/worker-link.ts';
import type { Outcome } from './runner.ts';
import type { Sequence } from './sequence.ts';

/**
 * What becomes of the sequences of a forward pass that broke off. It has moved some layers' states on and not others',
 * so that nobody in it can go on from there: they are computed again. Those whose experts could not be had fail. Those
 * that may have broken it are blamed; which one did shows when each is computed without the others.
 */
export function brokenOutcomes(seqs: readonly Sequence[], error: GuildhallError, nowMs: number): Outcome[] {
  const named = namedSequences(error);
  if (error.code === 'expert_unavailable') {
    // The wait ended at the earliest deadline: others that wait for the same experts have more time.
    const anyLate = seqs.some((seq) => isLate(seq, nowMs));
    return seqs.map((seq, index): Outcome => {
      const fails = named?.has(index) === true && (!anyLate || isLate(seq, nowMs));
      return fails ? { kind: 'failed', seq, error } : { kind: 'again', seq, cause: error, blamed: false };
    });
  }
  // Workers were tried with the rows of this one alone.
  const guilty = error.code === 'computation_failed' && named?.size === 1;
  const blames = (index: number): boolean => error.code !== 'cancelled' && (named === null || named.has(index));
  return seqs.map((seq, index): Outcome => {
    if (guilty && blames(index)) return { kind: 'failed', seq, error };
    return { kind: 'again', seq, cause: error, blamed: blames(index) };
  });
}

/** The error that a sequence ends with whose own computation breaks. */
export function computationFailed(cause: GuildhallError): GuildhallError {
  if (cause.code === 'computation_failed') return cause;
  return fail('computation_failed', `computing this request failed: ${cause.message}`, { cause });
}

function isLate(seq: Sequence, nowMs: number): boolean {
  return seq.spec.deadlineAtMs !== null && nowMs >= seq.spec.deadlineAtMs;
}

/** Indexes in the micro-batch of the sequences that an error names, or null when it names none. */
function namedSequences(error: GuildhallError): ReadonlySet<number> | null {
  const { sequences } = error.details;
  return Array.isArray(sequences) && sequences.length > 0 ? new Set(sequences as number[]) : null;
}

/** The error of a request that did not end before its deadline. */
export function lateError(seq: Sequence, waitedMs: number): GuildhallError {
  const done = `${seq.numGenerated} tokens after ${Math.round(waitedMs)} ms`;
  return fail('deadline_exceeded', `the request did not finish before its deadline (${done})`);
}

/** The error of a request that waited for experts in vain, with what is missing. */
export function uncoveredError(view: ExpertView<WorkerLink>, ms: number): GuildhallError {
  const missing = missingExperts(view);
  const waited = `no live worker for ${Math.round(ms)} ms`;
  if (missing === null) return fail('expert_unavailable', `some experts had ${waited}`);
  const { layer, experts, others } = missing;
  const rest = others === 0 ? '' : `, and ${others} of other layers`;
  return fail('expert_unavailable', `${nameExperts(layer, experts)}${rest} have had ${waited}`, {
    details: { layer, experts },
  });
}
