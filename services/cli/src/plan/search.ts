import { fail } from '@guildhall/common';
import { type Candidate, type Evaluation, Evaluator } from './evaluate.ts';
import type { Machine } from './machines.ts';
import type { PlanRequest } from './request.ts';

/** A plan: the best way that was found, and the best of each other kind with the reason against it. */
export interface Plan {
  request: PlanRequest;
  chosen: Evaluation;
  rejected: readonly { evaluation: Evaluation; why: string }[];
  /** Ways that were looked at. */
  considered: number;
}

/** Numbers of processes that are tried: all small ones, then steps of about a quarter. */
const STEPS = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 160, 192, 256];
/** Gain in tokens a second that a further machine must bring, relative to its part of all. */
const WORTH = 0.25;
const MOST_REJECTED = 6;

/**
 * Looks at every combination of formats, copies, numbers of routers and of workers that the machines allow. Machines that
 * meet all targets come first, two copies of each expert before one, then the lowest price (or the fewest machines); without
 * any target the most tokens a second that further machines are worth.
 */
export function search(request: PlanRequest): Plan {
  const evaluator = new Evaluator(request);
  const evaluations = [...candidates(request)].map((candidate) => evaluator.evaluate(candidate));
  const compare = comparison(request);
  const sorted = evaluations.toSorted(compare);
  const [chosen] = sorted;
  if (chosen === undefined) throw fail('internal', 'a request without candidates');
  return { request, chosen, rejected: rejections(request, chosen, sorted), considered: evaluations.length };
}

/** Every combination within the machines' numbers and roles. */
export function* candidates(request: PlanRequest): Generator<Candidate> {
  for (const weights of request.weights) {
    for (const router of request.machines.filter(({ role }) => role !== 'expert')) {
      for (const decodeSlowdown of request.decodeSlowdown) {
        const fixed = { weights, router, decodeSlowdown };
        if (request.experts.includes('local')) yield* localCandidates(request, fixed);
        if (request.experts.includes('remote')) yield* remoteCandidates(request, fixed);
      }
    }
  }
}

type Fixed = Pick<Candidate, 'weights' | 'router' | 'decodeSlowdown'>;

function* localCandidates(request: PlanRequest, fixed: Fixed): Generator<Candidate> {
  for (const routers of counts(request.routers, fixed.router.slots)) {
    yield { ...fixed, combine: 'exact', copies: 1, layerShards: 1, experts: 'local', routers, workers: [] };
  }
}

function* remoteCandidates(request: PlanRequest, fixed: Fixed): Generator<Candidate> {
  const shared = request.machines.length === 1 && sharesOne(fixed.router);
  for (const routers of counts(request.routers, shared ? 1 : fixed.router.slots)) {
    for (const workers of workerSets(request, fixed.router, routers, shared)) {
      const total = workers.reduce((sum, { count }) => sum + count, 0);
      for (const copies of request.copies) {
        for (const layerShards of shardings(request, workers.length, total, copies)) {
          for (const combine of request.combine) {
            yield { ...fixed, combine, copies, layerShards, experts: 'remote', routers, workers };
          }
        }
      }
    }
  }
}

/**
 * Numbers of parts for the layers that leave each layer as many workers as copies, all parts alike. Workers of several kinds
 * take experts of every layer by their speed.
 */
function shardings({ layerShards, model }: PlanRequest, kinds: number, workers: number, copies: number): number[] {
  const fits = (parts: number): boolean =>
    workers % parts === 0 &&
    workers / parts >= copies &&
    parts <= model.config.numLayers &&
    (parts === 1 || kinds === 1);
  if (layerShards !== 'auto') return fits(layerShards) ? [layerShards] : [];
  const all = Array.from({ length: workers }, (_, i) => i + 1).filter(fits);
  // The ends and the middle: what lies between them lies between them in time too.
  return [...new Set([all[0], all[Math.floor(all.length / 2)], all.at(-1)])].filter((parts) => parts !== undefined);
}

/** A single machine without cards holds router and workers as processes beside each other. */
function sharesOne({ slots, accelerator }: Machine): boolean {
  return slots === 1 && accelerator === 'none';
}

/** Workers of one kind, in all numbers, and of all kinds together. */
function* workerSets(
  request: PlanRequest,
  router: Machine,
  routers: number,
  shared: boolean,
): Generator<Candidate['workers']> {
  if (shared) {
    for (const count of request.workers === null ? [1, 2] : [request.workers]) yield [{ machine: router, count }];
    return;
  }
  const free = request.machines
    .filter(({ role }) => role !== 'router')
    .map((machine) => ({ machine, count: machine.slots - (machine === router ? routers : 0) }))
    .filter(({ count }) => count > 0);
  for (const { machine, count: most } of free) {
    for (const count of counts(request.workers, most)) yield [{ machine, count }];
  }
  if (free.length > 1 && request.workers === null) yield free;
}

function counts(fixed: number | null, most: number): number[] {
  if (fixed !== null) return fixed <= most ? [fixed] : [];
  return [...new Set([...STEPS.filter((count) => count <= most), most])].filter((count) => count >= 1);
}

/** Orders evaluations, the best first. */
function comparison({ traffic, machines }: PlanRequest): (a: Evaluation, b: Evaluation) => number {
  const hasTarget = traffic.requestsPerSecond !== null || traffic.sloTtftMs !== null || traffic.sloItlMs !== null;
  const priced = machines.every(({ pricePerHour }) => pricePerHour !== null);
  return (a, b) => {
    const short = severity(a) - severity(b);
    if (short !== 0) return short;
    const meets = a.shortfalls.length === 0;
    const safe = meets ? copiesOf(b) - copiesOf(a) : 0;
    if (safe !== 0) return safe;
    if (meets && hasTarget) return priceOf(priced, a) - priceOf(priced, b) || rateOf(b) - rateOf(a);
    if (meets) return worthOf(priced, b) - worthOf(priced, a);
    return missBy(a, traffic) - missBy(b, traffic) || rateOf(b) - rateOf(a);
  };
}

/** What weighs more comes later: what fits nowhere, then what serves too little, then what is only too slow. */
function severity({ shortfalls }: Evaluation): number {
  if (shortfalls.includes('router_memory')) return 3;
  if (shortfalls.includes('expert_memory')) return 2;
  return shortfalls.length === 0 ? 0 : 1;
}

/** Two copies, or none needed since nothing is held only once: local experts in several routers. */
function copiesOf({ candidate }: Evaluation): number {
  const held = candidate.experts === 'local' ? candidate.routers : candidate.copies;
  return Math.min(2, held);
}

/** Money, or machines where the price of any kind is not known. */
function priceOf(priced: boolean, { cost, slots }: Evaluation): number {
  return priced ? (cost?.perHour ?? Infinity) : slots;
}

function rateOf({ performance }: Evaluation): number {
  return performance?.outputTokensPerSecond ?? 0;
}

/** Tokens a second, less what as many machines must bring at least. */
function worthOf(priced: boolean, evaluation: Evaluation): number {
  return rateOf(evaluation) / priceOf(priced, evaluation) ** WORTH;
}

/** How far the targets are missed, as a factor. */
function missBy({ performance, userCapacity }: Evaluation, traffic: PlanRequest['traffic']): number {
  if (performance === null) return Infinity;
  const rate = (traffic.requestsPerSecond ?? 0) / Math.max(1e-9, performance.requestsPerSecond);
  const ttft = performance.ttftMs / (traffic.sloTtftMs ?? Infinity);
  const itl = performance.itlMs / (traffic.sloItlMs ?? Infinity);
  const users = (traffic.users ?? 0) / Math.max(1, userCapacity);
  return [rate, ttft, itl, users].reduce((product, miss) => product * Math.max(1, miss), 1);
}

/** The best of each kind that differs from the chosen one in something that a reader would ask about. */
function rejections(request: PlanRequest, chosen: Evaluation, sorted: readonly Evaluation[]): Plan['rejected'] {
  const kindOf = ({ candidate }: Evaluation): string =>
    [
      candidate.weights,
      candidate.experts,
      candidate.copies,
      candidate.layerShards > 1,
      candidate.combine,
      candidate.router.kind,
    ].join(' ');
  const found = new Map<string, Evaluation>();
  const add = (key: string, evaluation: Evaluation | undefined): void => {
    if (evaluation !== undefined && evaluation !== chosen && !found.has(key)) found.set(key, evaluation);
  };
  const alike = sorted.filter((evaluation) => kindOf(evaluation) === kindOf(chosen));
  add(
    'more routers',
    alike.find(({ candidate }) => candidate.routers > chosen.candidate.routers),
  );
  add(
    'fewer routers',
    alike.find(({ candidate }) => candidate.routers < chosen.candidate.routers),
  );
  const workersOf = ({ candidate, slots }: Evaluation): number => slots - candidate.routers;
  const sameRouters = alike.filter(({ candidate }) => candidate.routers === chosen.candidate.routers);
  add(
    'more workers',
    sameRouters.find((evaluation) => workersOf(evaluation) > workersOf(chosen)),
  );
  add(
    'fewer workers',
    sameRouters.find((evaluation) => workersOf(evaluation) < workersOf(chosen)),
  );
  for (const evaluation of sorted) if (kindOf(evaluation) !== kindOf(chosen)) add(kindOf(evaluation), evaluation);
  return [...found.values()]
    .slice(0, MOST_REJECTED + 4)
    .map((evaluation) => ({ evaluation, why: whyNot(request, chosen, evaluation) }));
}

function whyNot({ traffic }: PlanRequest, chosen: Evaluation, other: Evaluation): string {
  const { performance } = other;
  if (other.shortfalls.includes('router_memory')) return 'a router with one conversation does not fit its memory';
  if (other.shortfalls.includes('expert_memory')) return 'the experts do not fit the workers';
  if (performance === null) return 'nothing fits';
  const ms = (value: number): string => `${value.toFixed(0)} ms`;
  if (other.shortfalls.includes('rate')) return `serves ${performance.requestsPerSecond.toFixed(2)} requests/s only`;
  if (other.shortfalls.includes('ttft'))
    return `first token after ${ms(performance.ttftMs)}, wanted ${ms(traffic.sloTtftMs ?? 0)}`;
  if (other.shortfalls.includes('itl'))
    return `${ms(performance.itlMs)} between tokens, wanted ${ms(traffic.sloItlMs ?? 0)}`;
  if (other.shortfalls.includes('users')) return `holds the context of ${other.userCapacity} users only`;
  if (copiesOf(other) < copiesOf(chosen))
    return 'one copy of each expert: a lost worker stops every stream until it is loaded again';
  return comparedWith(chosen, other);
}

function comparedWith(chosen: Evaluation, other: Evaluation): string {
  const percent = (now: number, then: number): string => `${((now / Math.max(1e-9, then) - 1) * 100).toFixed(0)} %`;
  const price = other.cost === null || chosen.cost === null ? null : percent(other.cost.perHour, chosen.cost.perHour);
  const machines = other.slots - chosen.slots;
  const rate = percent(rateOf(other), rateOf(chosen));
  const what = price === null ? `${machines >= 0 ? '+' : ''}${machines} machines` : `price ${price}`;
  return `${what} for tokens/s ${rate}`;
}
