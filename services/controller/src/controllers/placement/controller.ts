import {
  type Clock,
  errorMessage,
  type LeaderFence,
  type Logger,
  type Metrics,
  type PublishResult,
  RENEW_MS,
} from '@guildhall/common';
import type { Emit } from '../../events.ts';
import { diffAssignments } from '../../placement/diff.ts';
import type { Assignment, PlanCost, PlanInput, PlanResult } from '../../placement/types.ts';
import type { PlacementRecord, Placements } from '../../store/placement-store.ts';
import type { LiveWorkers } from '../workers/controller.ts';
import { describeCost, reasonOf } from './describe.ts';
import type { Observed } from './observed.ts';
import { planInput, type PlanPolicy } from './plan-input.ts';
import { type Considered, considered, type Trigger, triggerOf } from './triggers.ts';

export interface PlacementDeps {
  /** What there is now, given the placement in force; null while the list of members is stale. */
  observe: (placement: PlacementRecord | null) => Promise<Observed | null>;
  placements: Placements;
  /** The planner: the result depends on the input alone. */
  plan: (input: PlanInput) => Promise<PlanResult>;
  policy: PlanPolicy;
  /** The fence while this process leads, else null. */
  leader: () => LeaderFence | null;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
  emit: Emit;
  minWorkers: number;
  settleMs: number;
  /** Time between two looks whether moving experts would pay; 0 for never. */
  rebalanceMs: number;
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
  observed: Observed | null;
}

/** How long members need to come back after Redis has lost its data. */
const REGISTER_MS = RENEW_MS + 1500;
/** Tokens that must have been counted for loads to say anything. */
const LEAST_TOKENS = 1000;
/** How soon to look again for members that are expected, ms. */
const EXPECTED_AGAIN_MS = 500;
const ONLY_WHAT_MUST = Number.POSITIVE_INFINITY;

type Planned = Extract<PlanResult, { kind: 'planned' }>;

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
  #before: Considered | null = null;
  #rebalancedMs: number;
  /** Epoch whose better alternative was spoken of. */
  #keptEpoch = 0;
  #shortage = '';

  constructor(deps: PlacementDeps) {
    this.#deps = deps;
    this.#rebalancedMs = deps.clock.monotonicMs();
  }

  /** The newest placement known. */
  get placement(): PlacementRecord | null {
    return this.#known;
  }

  /** Ids of the draining workers that the last plan took into account. */
  get drainsPlanned(): ReadonlySet<string> {
    return this.#before?.draining ?? new Set();
  }

  async reconcile(): Promise<Outcome> {
    const { observe, leader: currentLeader } = this.#deps;
    const stored = await this.#readStored();
    if (stored === null) return this.#outcome('stale', 'Redis does not answer', null);
    const observed = await observe(this.#known);
    if (observed === null) return this.#outcome('stale', 'the list of members is stale', null);
    const leader = currentLeader();
    if (leader === null) return this.#outcome('standby', 'another controller leads', observed);
    const wait = this.#reasonToWait(stored, observed.live);
    if (wait !== null) return { ...this.#outcome('waiting', wait.reason, observed), againMs: wait.againMs };
    const now = considered(observed);
    const trigger = triggerOf(this.#known, this.#before, now, observed) ?? this.#loadTrigger(observed);
    if (trigger !== null && !trigger.urgent && observed.loading.length > 0) {
      const reason = `${observed.loading.join(', ')} must load epoch ${this.#known?.epoch ?? 0} first`;
      return this.#restored(stored, observed, leader, this.#outcome('waiting', reason, observed));
    }
    if (trigger === null)
      return this.#restored(stored, observed, leader, this.#outcome('unchanged', 'the placement is right', observed));
    return this.#replan(stored, observed, now, trigger, leader);
  }

  #outcome(action: Outcome['action'], reason: string, observed: Observed | null): Outcome {
    return { action, epoch: this.#known?.epoch ?? 0, reason, againMs: null, observed };
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
    if (live.workers.length === 0 && live.expected.length === 0)
      return { reason: 'no worker has joined', againMs: null };
    const first = this.#known === null && live.ackedEpoch === 0;
    if (first && live.workers.length < minWorkers) {
      return { reason: `${live.workers.length} of ${minWorkers} workers have joined`, againMs: null };
    }
    if (live.expected.length > 0 && !this.#lostAny(live)) {
      const who = live.expected.join(', ');
      return {
        reason: `waiting for ${who} to register: ready by Kubernetes, unknown to Redis`,
        againMs: EXPECTED_AGAIN_MS,
      };
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

  #loadTrigger({ measured }: Observed): Trigger | null {
    const { rebalanceMs, clock } = this.#deps;
    if (rebalanceMs === 0 || measured.total < LEAST_TOKENS) return null;
    return clock.monotonicMs() - this.#rebalancedMs < rebalanceMs ? null : { kind: 'load', urgent: false };
  }

  async #replan(
    stored: number,
    observed: Observed,
    now: Considered,
    trigger: Trigger,
    leader: LeaderFence,
  ): Promise<Outcome> {
    const result = await this.#plan(observed, trigger);
    this.#noteShortage(result);
    if (result.kind === 'short') return this.#outcome('short', result.why, observed);
    if (trigger.kind === 'load') this.#noteRebalance(result, observed.measured.total);
    if (!result.changed && this.#known !== null && trigger.kind !== 'model') {
      this.#before = now;
      return this.#restored(stored, observed, leader, this.#outcome('unchanged', 'the placement is right', observed));
    }
    const reason = reasonOf(trigger, result, this.#known, observed);
    const outcome = await this.#publish(stored, observed, result, reason, leader);
    if (outcome.action === 'published') this.#before = now;
    return outcome;
  }

  /** Experts move for the load's sake only where that was asked for; else what must move does, and joined workers get some. */
  async #plan(observed: Observed, trigger: Trigger): Promise<PlanResult> {
    const { plan, policy, clock, metrics } = this.#deps;
    const { model } = observed.live;
    const current = this.#known !== null && trigger.kind !== 'model' ? this.#known.assignment : null;
    const free =
      trigger.kind === 'load' || trigger.kind === 'first' || trigger.kind === 'model' || trigger.kind === 'joined';
    const weights = free ? policy.weights : { ...policy.weights, threshold: ONLY_WHAT_MUST };
    const startMs = clock.monotonicMs();
    const result = await plan(planInput(observed, model === null ? null : current, { ...policy, weights }));
    metrics.observe('guildhall_plan_seconds', (clock.monotonicMs() - startMs) / 1000);
    return result;
  }

  #noteShortage(result: PlanResult): void {
    const why = result.kind === 'short' ? result.why : '';
    if (why !== '' && why !== this.#shortage && result.kind === 'short') {
      const { neededBytes, memoryBytes } = result;
      this.#deps.emit('placement_short', why, { neededBytes, memoryBytes });
    }
    this.#shortage = why;
  }

  #noteRebalance(result: Planned, tokens: number): void {
    const { clock, metrics, emit } = this.#deps;
    this.#rebalancedMs = clock.monotonicMs();
    metrics.count('guildhall_rebalances_total', { outcome: result.changed ? 'moved' : 'kept' });
    const epoch = this.#known?.epoch ?? 0;
    if (result.changed || epoch === this.#keptEpoch) return;
    this.#keptEpoch = epoch;
    emit('placement_kept', result.why, { epoch, tokens: Math.round(tokens), ...describeCost(result.cost) });
  }

  /** Publishes what is in force again where Redis lost it, or where members know a number above it. */
  async #restored(stored: number, observed: Observed, leader: LeaderFence, otherwise: Outcome): Promise<Outcome> {
    const known = this.#known;
    const { ackedEpoch } = observed.live;
    if (known === null || (stored >= known.epoch && ackedEpoch <= stored)) return otherwise;
    const reason = stored < known.epoch ? 'Redis lost the placement' : `members know epoch ${ackedEpoch}`;
    const { assignment, predicted } = known;
    return this.#publish(stored, observed, { assignment, cost: predicted, before: predicted }, reason, leader);
  }

  async #publish(
    stored: number,
    observed: Observed,
    wanted: { assignment: Assignment; cost: PlanCost | null; before: PlanCost | null },
    reason: string,
    leader: LeaderFence,
  ): Promise<Outcome> {
    const { placements, clock, logger } = this.#deps;
    const { model, ackedEpoch } = observed.live;
    if (model === null) return this.#outcome('waiting', 'no worker has joined', observed);
    const epoch = Math.max(stored, this.#known?.epoch ?? 0, ackedEpoch, this.#taken) + 1;
    const record: PlacementRecord = { ...model, epoch, assignment: wanted.assignment, predicted: wanted.cost };
    const result = await this.#tryPublish(() => placements.publish(stored, record, reason, clock.nowMs(), leader));
    if (result === 'number_taken') this.#taken = epoch;
    if (result !== 'published') {
      logger.warn({ event: 'placement_refused', epoch, result }, 'a placement was not published');
      return { ...this.#outcome('refused', result, observed), againMs: 0 };
    }
    this.#notePublished(record, wanted.before, reason);
    return this.#outcome('published', reason, observed);
  }

  async #tryPublish(publish: () => Promise<PublishResult>): Promise<PublishResult> {
    const result = await publish();
    this.#deps.metrics.count('guildhall_placements_total', { outcome: result });
    return result;
  }

  #notePublished(record: PlacementRecord, before: PlanCost | null, reason: string): void {
    const { logger, metrics, emit } = this.#deps;
    const { epoch, assignment, predicted } = record;
    const diff = diffAssignments(this.#known?.assignment ?? null, assignment);
    const { workers } = assignment;
    logger.info({ event: 'placement_published', epoch, reason, workers, ...diff }, 'placement published');
    const costs = { after: predicted && describeCost(predicted), before: before && describeCost(before) };
    emit('placement', `epoch ${epoch}: ${reason}`, { epoch, reason, workers, ...diff, ...costs });
    metrics.count('guildhall_expert_moves_total', {}, diff.loads);
    metrics.gauge('guildhall_epoch', epoch);
    this.#known = record;
    this.#rebalancedMs = this.#deps.clock.monotonicMs();
  }
}
