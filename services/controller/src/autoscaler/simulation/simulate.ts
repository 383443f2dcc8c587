import { createMetrics, type Logger, type MemberEntry } from '@guildhall/common';
import { Autoscaler } from '../loop.ts';
import type { AutoscalerStatus } from '../status.ts';
import type { Scenario, SimFault } from './scenario.ts';
import { seeded } from './seeded.ts';
import { SimClock } from './sim-clock.ts';
import { SimCluster } from './sim-cluster.ts';
import { SimExperts } from './sim-experts.ts';
import { membersOf } from './sim-members.ts';
import { SimTraffic } from './sim-traffic.ts';

const TICK_MS = 1000;

/** The simulated cluster at one time. */
export interface SimSample {
  atMs: number;
  /** Requests a second that arrive. */
  load: number;
  held: number;
  waiting: number;
  running: number;
  itlMs: number;
  /** Share of the wanted tokens that were computed. */
  share: number;
  gpus: number;
  /** By workload. */
  replicas: Record<string, number>;
  ready: Record<string, number>;
}

export interface SimChange {
  atMs: number;
  workload: string;
  from: number;
  to: number;
}

/** What came of a simulation. */
export interface SimResult {
  samples: SimSample[];
  /** Changes of spec.replicas by anybody but foreign writers. */
  changes: SimChange[];
  /** Largest number of GPUs that were asked for at a time. */
  mostGpus: number;
  uncoveredMs: number;
  /** Pods that were taken away while they worked, other than by accident or with the whole model. */
  undrained: readonly string[];
  dropped: number;
  served: number;
  /** Reasons of alarms that were raised. */
  alarms: Set<string>;
  /** Reasons of everything that was decided. */
  reasons: Map<string, number>;
  last: AutoscalerStatus | null;
}

/** One simulated cluster with the autoscaler that production runs: everything but the machines and the traffic is real. */
class Simulation {
  readonly #scenario: Scenario;
  readonly #clock = new SimClock();
  readonly #cluster: SimCluster;
  readonly #experts: SimExperts;
  readonly #traffic: SimTraffic;
  readonly #metrics = createMetrics('controller');
  readonly #result: SimResult;
  readonly #random: () => number;
  #members: MemberEntry[] = [];
  #faults: readonly SimFault[] = [];
  #autoscaler: Autoscaler;
  #crashed = false;
  #hadHeld = false;
  #begun = new Set<SimFault>();

  constructor(scenario: Scenario) {
    this.#scenario = scenario;
    this.#random = seeded(scenario.seed);
    this.#cluster = new SimCluster(scenario, this.#clock);
    this.#experts = new SimExperts(scenario);
    this.#traffic = new SimTraffic(scenario, this.#clock);
    const counts = { mostGpus: 0, undrained: [], uncoveredMs: 0, dropped: 0, served: 0 };
    this.#result = { samples: [], changes: [], ...counts, alarms: new Set(), reasons: new Map(), last: null };
    this.#autoscaler = this.#start();
  }

  #start(): Autoscaler {
    const { policy } = this.#scenario;
    const members = (): readonly MemberEntry[] => this.#members;
    return new Autoscaler({
      id: 'controller',
      policy: () => policy,
      workloads: this.#cluster.workloads,
      shrinks: this.#cluster.shrinks,
      members: { members, stale: false, onChange: () => () => {} },
      leader: { fence: { owner: 'controller', fence: 1 } },
      clock: this.#clock,
      logger: QUIET,
      metrics: this.#metrics,
      emit: (kind, _message, details) => this.#note(kind, String(details?.['reason'])),
      publish: async (status) => void (this.#result.last = status),
    });
  }

  #note(kind: string, reason: string): void {
    const { alarms, reasons } = this.#result;
    if (kind === 'autoscaler_alarm') alarms.add(reason);
    else reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  }

  async run(): Promise<SimResult> {
    const { forMs, policy } = this.#scenario;
    for (let atMs = 0; atMs < forMs; atMs += TICK_MS) {
      this.#clock.advance(TICK_MS);
      this.#applyFaults(atMs);
      this.#move();
      // A gateway that begins to hold requests says so at once.
      const woken = this.#traffic.held > 0 && !this.#hadHeld;
      this.#hadHeld = this.#traffic.held > 0;
      if (woken || atMs % policy.evaluateMs < TICK_MS) await this.#evaluate();
      this.#sample(atMs);
    }
    const { dropped, served } = this.#traffic;
    const changes = changesIn(this.#result.samples, this.#scenario.faults);
    const { undrained } = this.#cluster;
    return Object.assign(this.#result, { changes, undrained, dropped, served, uncoveredMs: this.#experts.uncoveredMs });
  }

  #move(): void {
    const cluster = this.#cluster;
    cluster.tick((pods) => {
      const experts = pods.every((pod) => !pod.startsWith('router'));
      return !experts || this.#experts.heldWithout(cluster, new Set(pods));
    });
    const awake = this.#scenario.groups.every(({ name }) => cluster.find(name).replicas > 0);
    this.#experts.tick(cluster, this.#clock.nowMs(), TICK_MS, awake);
    this.#traffic.tick(cluster, this.#experts, TICK_MS);
    this.#result.mostGpus = Math.max(this.#result.mostGpus, cluster.gpusAsked);
  }

  async #evaluate(): Promise<void> {
    if (this.#crashed) return;
    const cluster = this.#cluster;
    this.#members = membersOf(this.#scenario, cluster, this.#experts, this.#traffic, this.#faults, this.#random);
    await this.#autoscaler.evaluate();
  }

  #applyFaults(atMs: number): void {
    const cluster = this.#cluster;
    this.#faults = this.#scenario.faults.filter((fault) => atMs >= fault.atMs && atMs < fault.atMs + fault.forMs);
    const active = this.#faults;
    cluster.blind = active.some(({ kind }) => kind === 'blind');
    cluster.noNodes = active.some(({ kind }) => kind === 'no_nodes');
    cluster.failing = (name) => {
      const fault = active.find((one) => one.kind === 'writes_fail' && one.workload === name);
      return fault?.kind === 'writes_fail' ? fault.outcome : null;
    };
    const crashed = active.some(({ kind }) => kind === 'crash');
    // Another process takes over, which has seen nothing of before.
    if (this.#crashed && !crashed) this.#autoscaler = this.#start();
    this.#crashed = crashed;
    for (const fault of active) {
      if (this.#begun.has(fault)) continue;
      this.#begun.add(fault);
      this.#begin(fault);
    }
  }

  #begin(fault: SimFault): void {
    if (fault.kind === 'foreign_writer') {
      const target = this.#cluster.find(fault.workload);
      target.replicas = fault.replicas;
      target.foreignWriter = 'kubectl-scale';
    }
    if (fault.kind === 'pod_lost') {
      const target = this.#cluster.find(fault.workload);
      target.pods = target.pods.filter((pod) => pod !== this.#cluster.serving(fault.workload)[0]);
      this.#experts.excuse(this.#clock.nowMs() + this.#scenario.coldStartMs + 30_000);
    }
  }

  #sample(atMs: number): void {
    const { held, waiting, running, itlMs, share } = this.#traffic;
    const { deployments, gpusAsked } = this.#cluster;
    this.#result.samples.push({
      atMs,
      load: this.#scenario.load(atMs),
      held,
      waiting,
      running,
      itlMs,
      share,
      gpus: gpusAsked,
      replicas: Object.fromEntries(deployments.map((one) => [one.name, one.replicas])),
      ready: Object.fromEntries(deployments.map((one) => [one.name, this.#cluster.serving(one.name).length])),
    });
  }
}

/** Where the number of replicas changed, but for what other writers did. */
function changesIn(samples: readonly SimSample[], faults: readonly SimFault[]): SimChange[] {
  return samples.slice(1).flatMap(({ atMs, replicas }, at) =>
    Object.entries(replicas).flatMap(([workload, to]) => {
      const from = samples[at]?.replicas[workload] ?? to;
      const foreign = faults.some(
        (one) => one.kind === 'foreign_writer' && one.workload === workload && one.atMs === atMs,
      );
      return from === to || foreign ? [] : [{ atMs, workload, from, to }];
    }),
  );
}

const nothing = (): void => {};
const QUIET = { debug: nothing, info: nothing, warn: nothing, error: nothing } as unknown as Logger;

/** Runs a scenario to its end. The same scenario gives the same result. */
export function simulate(scenario: Scenario): Promise<SimResult> {
  return new Simulation(scenario).run();
}
