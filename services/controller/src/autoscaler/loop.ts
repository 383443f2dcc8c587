import {
  type Clock,
  errorMessage,
  type LeaderElection,
  type Logger,
  type MemberEntry,
  type Metrics,
  Poller,
} from '@guildhall/common';
import type { Emit } from '../events.ts';
import type { Shrinks, Workloads } from '../k8s/types.ts';
import type { ReconcileTraces } from '../reconcile-trace.ts';
import { type CarriedOut, carryOut } from './carry-out.ts';
import { decide } from './decide/decide.ts';
import type { Plan } from './plan.ts';
import type { AutoscalerPolicy } from './policy.ts';
import { readSignals } from './signals.ts';
import type { AutoscalerStatus } from './status.ts';
import { Teller } from './teller.ts';
import { Tracker } from './tracker/tracker.ts';
import type { View } from './view.ts';

export interface AutoscalerDeps {
  /** Id of the controller. */
  id: string;
  /** Asked for at each evaluation. */
  policy: () => AutoscalerPolicy;
  workloads: Workloads;
  shrinks: Shrinks;
  members: { members(): readonly MemberEntry[]; readonly stale: boolean; onChange(listener: () => void): () => void };
  leader: Pick<LeaderElection, 'fence'>;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
  emit: Emit;
  /** Told of each evaluation; left out where nothing is traced. */
  traces?: Pick<ReconcileTraces, 'begin' | 'end'>;
  /** Keeps the status where people and programs find it; called by the leader only. */
  publish: (status: AutoscalerStatus) => Promise<void>;
}

/**
 * Looks at the cluster, decides and acts, over and over. Every controller looks, so that one that comes to lead knows the load of
 * the time before; only the leader acts and tells.
 */
export class Autoscaler {
  readonly #deps: AutoscalerDeps;
  readonly #teller: Teller;
  readonly #tracker = new Tracker();
  readonly #poller: Poller;
  readonly #offs: (() => void)[] = [];
  #everyMs: number;
  #wasLeading = false;
  #lastHeld = 0;
  #blind: string | null = null;

  constructor(deps: AutoscalerDeps) {
    this.#deps = deps;
    this.#teller = new Teller(deps);
    this.#everyMs = deps.policy().evaluateMs;
    this.#poller = new Poller(
      deps.clock,
      () => this.#everyMs,
      () => this.evaluate(),
    );
  }

  async start(): Promise<void> {
    const { members, workloads } = this.#deps;
    this.#offs.push(members.onChange(() => this.#pokeWhenHeld()));
    // Pods that have come or gone change what may be done next.
    this.#offs.push(workloads.onChange(() => (this.#blind === null ? undefined : this.#poller.poke())));
    await this.#poller.start();
  }

  async stop(): Promise<void> {
    for (const off of this.#offs) off();
    await this.#poller.stop();
  }

  /** Requests that are held cannot wait for the next evaluation. */
  #pokeWhenHeld(): void {
    const held = readSignals(this.#deps.members.members().filter(({ kind }) => kind === 'gateway')).gateways.reduce(
      (sum, gateway) => sum + gateway.held,
      0,
    );
    if (held > 0 && this.#lastHeld === 0) this.#poller.poke();
    this.#lastHeld = held;
  }

  /** One evaluation. Never throws: what cannot be done now is done next time. */
  async evaluate(): Promise<void> {
    const { clock, logger, leader, traces, policy: readPolicy } = this.#deps;
    traces?.begin();
    try {
      const policy = readPolicy();
      this.#everyMs = policy.evaluateMs;
      const leading = leader.fence !== null;
      if (this.#wasLeading && !leading) this.#teller.silence();
      this.#wasLeading = leading;
      if (policy.mode === 'off') return await this.#publish(policy, null, null, null);
      const view = this.#look(policy, clock.nowMs());
      if (view === null || !leading) return view === null ? await this.#publish(policy, null, null, null) : undefined;
      const plan = decide(view, policy);
      const done = await this.#act(plan, policy);
      this.#teller.alarms(plan);
      this.#teller.gauges(view, plan);
      await this.#publish(policy, view, plan, done);
    } catch (err) {
      logger.error({ reason: errorMessage(err), err }, 'an evaluation of the autoscaler failed');
    } finally {
      traces?.end(null);
    }
  }

  /** Null while too little is known: nothing is decided on what may be old. */
  #look(policy: AutoscalerPolicy, atMs: number): View | null {
    const { workloads, members, shrinks, metrics, logger } = this.#deps;
    const { current } = workloads;
    const blind =
      current === null
        ? 'the API server’s objects are not known'
        : members.stale
          ? 'Redis is away: members are not known'
          : null;
    if (blind !== this.#blind && blind !== null)
      logger.warn({ event: 'autoscaler_blind', reason: blind }, 'the autoscaler waits');
    this.#blind = blind;
    metrics.count('guildhall_autoscaler_evaluations_total', { outcome: blind === null ? 'decided' : 'blind' });
    if (current === null || blind !== null) return null;
    const signals = readSignals(members.members());
    return this.#tracker.observe({ atMs, workloads: current, shrinks: shrinks.current, signals }, policy);
  }

  async #act(plan: Plan, policy: AutoscalerPolicy): Promise<CarriedOut | null> {
    if (policy.mode !== 'active') {
      this.#teller.recommend(plan.steps);
      return null;
    }
    const { clock } = this.#deps;
    return carryOut(plan, this.#deps, (step, outcome) => {
      if (outcome === 'done') this.#tracker.noteStep(step, clock.nowMs(), policy);
      this.#teller.step(step, outcome);
    });
  }

  async #publish(
    policy: AutoscalerPolicy,
    view: View | null,
    plan: Plan | null,
    done: CarriedOut | null,
  ): Promise<void> {
    const { id, clock, logger, leader, publish } = this.#deps;
    if (leader.fence === null) return;
    const carriedOut =
      done === null
        ? null
        : { steps: done.steps, failed: done.failed.map(({ step, outcome }) => `${step.workload}: ${outcome}`) };
    try {
      const blind = policy.mode === 'off' ? null : this.#blind;
      await publish({
        controller: id,
        mode: policy.mode,
        blind,
        view,
        plan,
        policy,
        carriedOut,
        updatedMs: clock.nowMs(),
      });
    } catch (err) {
      logger.debug({ reason: errorMessage(err) }, 'the autoscaler’s status is not written');
    }
  }
}
