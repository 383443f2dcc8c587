import { costIn } from './cost.ts';
import type { Draft } from './draft.ts';
import { fill, improve } from './improve.ts';
import { prepare, type Problem } from './problem.ts';
import { keep, repair, type Uncovered } from './repair.ts';
import type { Assignment, PlanCost, PlanInput, PlanResult } from './types.ts';
import { chooseUsable, type Usable } from './usable.ts';

/** Rounds of one plan; the last one finds nothing left to do, and the second usually is the last. */
const MOST_ROUNDS = 8;
const MIB = 1024 * 1024;

/**
 * Plans who holds which experts. What is in force stays where it can. Copies that must exist are added (a worker was
 * lost or drains, memory shrank, experts have too few copies) and workers without experts get some, which always is a reason
 * to change; then experts move or are replicated if the predicted gain is worth it (`input.weights`). The result
 * depends on the input alone, not on the order of its workers, and planning again from it changes nothing.
 * docs/placement.md describes the objective.
 */
export function planPlacement(input: PlanInput): PlanResult {
  const problem = prepare(input);
  const usable = chooseUsable(problem);
  let why = '';
  let assignment = input.current;
  for (let round = 0; round < MOST_ROUNDS; round++) {
    const next = planOnce(after(problem, assignment), usable);
    if ('layer' in next) return shortage(problem, usable, next);
    const changed = assignment === null || !sameAssignment(assignment, next.assignment);
    if (changed) assignment = next.assignment;
    if (round === 0 || (changed && next.why !== '')) why = next.why;
    if (!changed) break;
  }
  return resultOf(problem, assignment as Assignment, why);
}

interface Planned {
  assignment: Assignment;
  /** What was gained by moving experts that need not move, or why none did. */
  why: string;
}

/** One round: what must be, then what is better. */
function planOnce(problem: Problem, usable: Usable): Planned | Uncovered {
  const kept = keep(problem, usable);
  const fresh = problem.input.current === null && kept.holders.flat(2).length === 0;
  const draft = kept.copy();
  const uncovered = repair(draft, usable, fresh);
  if (uncovered !== null) return uncovered;
  const needed = assignmentOf(draft, usable);
  const filled = fresh ? needed : fillEmpty(problem, usable, draft, needed, emptyWorkers(problem, usable, kept));
  return improved(after(problem, filled), usable, filled, fresh);
}

function assignmentOf(draft: Draft, { active }: Usable): Assignment {
  return draft.assignment((worker) => active[worker] === 1);
}

function emptyWorkers({ input }: Problem, { active }: Usable, kept: Draft): Uint8Array {
  const used = new Set(kept.holders.flat(2));
  return active.map((flag, worker) => (flag === 1 && input.current !== null && !used.has(worker) ? 1 : 0));
}

/** The problem of what comes after an assignment, as though it were in force. */
function after({ input }: Problem, assignment: Assignment | null): Problem {
  return prepare({ ...input, current: assignment });
}

/** Gives workers that had nothing their share, if the predicted step gets shorter by it. */
function fillEmpty(problem: Problem, usable: Usable, draft: Draft, needed: Assignment, empty: Uint8Array): Assignment {
  if (!empty.includes(1)) return needed;
  const before = costIn(problem, needed);
  fill(draft, usable, empty);
  const filled = assignmentOf(draft, usable);
  return costIn(problem, filled).stepUs < before.stepUs * (1 - 1e-9) ? filled : needed;
}

/** Moves experts where that is worth it. */
function improved(problem: Problem, usable: Usable, from: Assignment, free: boolean): Planned {
  const { weights } = problem.input;
  if (!free && weights.threshold === Infinity) return { assignment: from, why: 'nothing must move' };
  const priced = free ? prepare({ ...problem.input, weights: { ...weights, usPerMovedMib: 0 } }) : problem;
  const draft = keep(priced, {
    ...usable,
    active: usable.active.map((flag, w) => (flag === 1 || usable.draining[w] === 1 ? 1 : 0)),
  });
  improve(draft, usable, !free);
  const wanted = assignmentOf(draft, usable);
  const before = costIn(problem, from);
  const then = costIn(problem, wanted);
  const gainUs = worth(problem, before) - worth(problem, then);
  const part = before.stepUs > 0 ? gainUs / before.stepUs : 0;
  if (gainUs <= 0) return { assignment: from, why: 'no move would make it better' };
  if (!free && part < weights.threshold) {
    return {
      assignment: from,
      why: `moving experts would gain ${percent(part)} of a step, less than ${percent(weights.threshold)}`,
    };
  }
  const mib = then.bytesMoved / MIB;
  if (!free && gainUs < mib * weights.usPerMovedMib) {
    return {
      assignment: from,
      why: `moving experts would gain ${gainUs.toFixed(0)} µs of a step, not worth ${mib.toFixed(0)} MiB`,
    };
  }
  return { assignment: wanted, why: '' };
}

/** The objective apart from bytes, in microseconds of a step. */
function worth({ numLayers, input }: Problem, cost: PlanCost): number {
  return cost.stepUs + input.weights.usPerExtraWorker * numLayers * cost.workersPerToken;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

function resultOf(problem: Problem, assignment: Assignment, why: string): PlanResult {
  const { current } = problem.input;
  const before = current === null ? null : costIn(problem, current);
  if (current !== null && before !== null && sameHolders(current, assignment) && noneLeft(current, assignment)) {
    return {
      kind: 'planned',
      assignment: current,
      cost: before,
      before,
      changed: false,
      why: `the placement is right: ${why}`,
    };
  }
  const cost = costIn(problem, assignment);
  return {
    kind: 'planned',
    assignment,
    cost,
    before,
    changed: true,
    why: membersChanged(current, assignment) ?? describeGain(before, cost),
  };
}

function describeGain(before: PlanCost | null, cost: PlanCost): string {
  if (before === null) return 'first placement';
  return (
    `a step takes ${cost.stepUs.toFixed(0)} instead of ${before.stepUs.toFixed(0)} µs by prediction, ` +
    `${cost.workersPerToken.toFixed(2)} instead of ${before.workersPerToken.toFixed(2)} workers per token, ` +
    `for ${(cost.bytesMoved / MIB).toFixed(0)} MiB`
  );
}

/** Who came and went; null where nobody did. */
function membersChanged(current: Assignment | null, wanted: Assignment): string | null {
  if (current === null) return `first placement, ${wanted.workers.length} workers`;
  const left = current.workers.filter((id) => !wanted.workers.includes(id));
  const joined = wanted.workers.filter((id) => !current.workers.includes(id));
  if (left.length + joined.length === 0) return null;
  return `joined: ${joined.join(' ') || 'none'}; left: ${left.join(' ') || 'none'}`;
}

function noneLeft(current: Assignment, wanted: Assignment): boolean {
  return current.workers.every((id) => wanted.workers.includes(id));
}

function sameAssignment(a: Assignment, b: Assignment): boolean {
  return a.workers.length === b.workers.length && a.workers.every((id, i) => id === b.workers[i]) && sameHolders(a, b);
}

function sameHolders(a: Assignment, b: Assignment): boolean {
  const named = ({ workers, holders }: Assignment): string =>
    JSON.stringify(holders.map((layer) => layer.map((indexes) => indexes.map((index) => workers[index] ?? '').sort())));
  return named(a) === named(b);
}

function shortage(problem: Problem, { active, draining }: Usable, { layer, expert }: Uncovered): PlanResult {
  const { input, numLayers, numExperts, slots, workers } = problem;
  const needed = numLayers * numExperts;
  const room = slots.reduce(
    (sum, count, worker) => sum + (active[worker] === 1 || draining[worker] === 1 ? count : 0),
    0,
  );
  const why =
    room < needed
      ? `the experts need ${needed} places and the ${workers.length} workers have ${room}: add workers or memory`
      : `no worker can take expert ${expert} of layer ${layer}: those that have its files (guildhall pull) lack the memory, or none has them`;
  return { kind: 'short', why, neededBytes: needed * input.expertBytes, memoryBytes: room * input.expertBytes };
}
