import { type Clock, errorMessage, type LeaderFence, type Logger, type Metrics, RENEW_MS } from '@guildhall/common';
import {
  assign,
  type AssignInput,
  type Assignment,
  type AssignWorker,
  isShortage,
  type Shortage,
} from '../../placement/assign.ts';
import { diffAssignments, isRight } from '../../placement/diff.ts';
import type { PlacementRecord, Placements } from '../../store/placement-store.ts';
import type { WorkerInfo } from '../../store/worker-store.ts';
import type { LiveWorkers, WorkersController } from '../workers/controller.ts';
import { sameModel } from '../workers/model-choice.ts';

export interface PlacementDeps {
  workers: Pick<WorkersController, 'reconcile'>;
  placements: Placements;
  /** The fence while this process leads, else null. */
  leader: () => LeaderFence | null;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
  minWorkers: number;
  replicas: number;
  settleMs: number;
}

/** What one reconciliation came to. */
export interface Outcome {
  action: 'standby' | 'stale' | 'waiting' | 'unchanged' | 'published' | 'refused' | 'short';
  /** The epoch in force. */
  epoch: number;
  /** For people. */
  reason: string;
  /** When to look again although nothing happens, ms from now; null for the usual interval. */
  againMs: number | null;
  live: LiveWorkers | null;
}

/** How long members need to come back after Redis has lost its data. */
const REGISTER_MS = RENEW_MS + 1500;

/**
 * Keeps the placement right: level-triggered and idempotent, so that it may run at any time, any number of times,
 * in several processes of which one leads.
 */
export class PlacementController {
  readonly #deps: PlacementDeps;
  /** The newest placement seen, which survives the loss of Redis's data. */
  #known: PlacementRecord | null = null;
  /** Numbers up to this one are taken. */
  #taken = 0;

  constructor(deps: PlacementDeps) {
    this.#deps = deps;
  }

  async reconcile(): Promise<Outcome> {
    const stored = await this.#readStored();
    if (stored === null) return this.#outcome('stale', 'Redis does not answer', null);
    const live = this.#deps.workers.reconcile(this.#known);
    if (live === null) return this.#outcome('stale', 'the list of members is stale', null);
    const leader = this.#deps.leader();
    if (leader === null) return this.#outcome('standby', 'another controller leads', live);
    const wait = this.#reasonToWait(stored, live);
    if (wait !== null) return { ...this.#outcome('waiting', wait.reason, live), againMs: wait.againMs };
    const plan = this.#plan(live);
    const why = this.#reasonToPublish(stored, live, plan);
    if (why === null) return this.#outcome('unchanged', 'the placement is right', live);
    const wanted = assign(plan);
    if (isShortage(wanted)) return this.#outcome('short', describeShortage(wanted, live), live);
    return await this.#publish(stored, live, wanted, why, leader);
  }

  #outcome(action: Outcome['action'], reason: string, live: LiveWorkers | null): Outcome {
    return { action, epoch: this.#known?.epoch ?? 0, reason, againMs: null, live };
  }

  /** The epoch in Redis (0 for none), with `known` brought up to it; null while Redis is away. */
  async #readStored(): Promise<number | null> {
    const { placements, logger } = this.#deps;
    try {
      const epoch = await placements.currentEpoch();
      if (epoch > (this.#known?.epoch ?? 0)) this.#known = (await placements.read(epoch)) ?? this.#known;
      return epoch;
    } catch (err) {
      logger.debug({ reason: errorMessage(err) }, 'the placement cannot be read');
      return null;
    }
  }

  #reasonToWait(stored: number, live: LiveWorkers): { reason: string; againMs: number | null } | null {
    const { minWorkers, settleMs, clock } = this.#deps;
    if (live.workers.length === 0) return { reason: 'no worker has joined', againMs: null };
    const first = this.#known === null && live.ackedEpoch === 0;
    if (first && live.workers.length < minWorkers) {
      return { reason: `${live.workers.length} of ${minWorkers} workers have joined`, againMs: null };
    }
    // Losses are acted on at once; joins are gathered, and longer where members have yet to come back.
    if (!first && !this.#anyJoined(live) && stored > 0) return null;
    if (this.#lostAny(live)) return null;
    const quietMs = stored === 0 && !first ? Math.max(settleMs, REGISTER_MS) : settleMs;
    const leftMs = live.joinedMs + quietMs - clock.monotonicMs();
    return leftMs > 0 ? { reason: 'waiting for further workers to join', againMs: leftMs } : null;
  }

  #anyJoined(live: LiveWorkers): boolean {
    const placed = new Set(this.#known?.assignment.workers);
    return live.workers.some((worker) => !placed.has(worker.id));
  }

  #lostAny(live: LiveWorkers): boolean {
    if (this.#known === null) return false;
    const alive = new Set(live.workers.map((worker) => worker.id));
    return this.#known.assignment.workers.some((id) => !alive.has(id));
  }

  /** Who gets experts: all but the draining workers, which keep only what the others have no room for. */
  #plan(live: LiveWorkers): AssignInput {
    const { numLayers, numExperts } = live.workers[0] ?? { numLayers: 0, numExperts: 0 };
    const workers = live.workers.filter((worker) => !worker.draining).map(slotsOf);
    let lacking = numLayers * numExperts - workers.reduce((sum, worker) => sum + worker.slots, 0);
    for (const worker of live.workers.filter((candidate) => candidate.draining)) {
      if (lacking <= 0) break;
      const able = slotsOf(worker);
      workers.push({ ...able, slots: Math.min(able.slots, lacking) });
      lacking -= able.slots;
    }
    return { numLayers, numExperts, workers, current: this.#currentHolders(live), replicas: this.#deps.replicas };
  }

  /** Who has an expert: by the last placement, then by what workers say they hold. */
  #currentHolders(live: LiveWorkers): (layer: number, expert: number) => string[] {
    const known = this.#known?.assignment;
    return (layer, expert) => {
      const placed = (known?.holders[layer]?.[expert] ?? []).map((index) => known?.workers[index] ?? '');
      const holding = live.workers.filter((worker) => worker.holdings.get(layer)?.has(expert) === true);
      return [...placed, ...holding.map((worker) => worker.id)];
    };
  }

  #reasonToPublish(stored: number, live: LiveWorkers, plan: AssignInput): string | null {
    const known = this.#known;
    if (known === null) return `first placement, ${plan.workers.length} workers`;
    if (live.model !== null && !sameModel(known, live.model)) return 'another model is served';
    if (!isRight(known.assignment, plan)) return describeChange(known.assignment, plan);
    if (stored < known.epoch) return 'Redis lost the placement';
    if (live.ackedEpoch > stored) return `members know epoch ${live.ackedEpoch}`;
    return null;
  }

  async #publish(
    stored: number,
    live: LiveWorkers,
    wanted: Assignment,
    reason: string,
    leader: LeaderFence,
  ): Promise<Outcome> {
    const { placements, clock, logger, metrics } = this.#deps;
    const { model } = live;
    if (model === null) return this.#outcome('waiting', 'no worker has joined', live);
    const epoch = Math.max(stored, this.#known?.epoch ?? 0, live.ackedEpoch, this.#taken) + 1;
    const record: PlacementRecord = { ...model, epoch, assignment: wanted };
    const result = await placements.publish(stored, record, reason, clock.nowMs(), leader);
    metrics.count('guildhall_placements_total', { outcome: result });
    if (result === 'number_taken') this.#taken = epoch;
    if (result !== 'published') {
      logger.warn({ event: 'placement_refused', epoch, result }, 'a placement was not published');
      return { ...this.#outcome('refused', result, live), againMs: 0 };
    }
    const diff = diffAssignments(this.#known?.assignment ?? null, wanted);
    logger.info(
      { event: 'placement_published', epoch, reason, workers: wanted.workers, ...diff },
      'placement published',
    );
    this.#known = record;
    metrics.gauge('guildhall_epoch', epoch);
    return this.#outcome('published', reason, live);
  }
}

function slotsOf(worker: WorkerInfo): AssignWorker {
  const { id, loadable, expertBytes, capacityBytes } = worker;
  const slots = expertBytes > 0 ? Math.floor(capacityBytes / expertBytes) : 0;
  if (loadable === null) return { id, slots, can: null };
  return { id, slots, can: (layer, expert) => loadable.get(layer)?.has(expert) === true };
}

function describeChange(before: Assignment, plan: AssignInput): string {
  const old = new Set(before.workers);
  const now = new Set(plan.workers.map((worker) => worker.id));
  const joined = [...now].filter((id) => !old.has(id));
  const left = [...old].filter((id) => !now.has(id));
  if (joined.length + left.length === 0) return 'memory or copies have changed';
  return `joined: ${joined.join(' ') || 'none'}; left: ${left.join(' ') || 'none'}`;
}

function describeShortage({ neededSlots, slots, nobody }: Shortage, live: LiveWorkers): string {
  if (nobody !== null) {
    const { layer, expert } = nobody;
    return `no worker can take expert ${expert} of layer ${layer}: those that have its files (guildhall pull) lack the memory, or none has them`;
  }
  return `the experts need ${neededSlots} places and the ${live.workers.length} workers have ${slots}: add workers or memory`;
}
