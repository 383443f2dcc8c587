import type { MemberEntry } from '@guildhall/common';
import { control } from '@guildhall/proto';
import type { Scenario, SimFault, SimGroup } from './scenario.ts';
import type { SimCluster, SimPod } from './sim-cluster.ts';
import type { SimExperts } from './sim-experts.ts';
import type { SimTraffic } from './sim-traffic.ts';

const BYTES = 1000n;
/** What members report of their load is off by as much. */
const NOISE = 0.05;

/** The members' entries as processes would write them. */
export function membersOf(
  scenario: Scenario,
  cluster: SimCluster,
  experts: SimExperts,
  traffic: SimTraffic,
  faults: readonly SimFault[],
  random: () => number,
): MemberEntry[] {
  const broken = (workload: string): 'absent' | 'nan' | null =>
    faults.find((fault) => fault.kind === 'no_metrics' && fault.workload === workload)?.kind === 'no_metrics'
      ? (
          faults.find((fault) => fault.kind === 'no_metrics' && fault.workload === workload) as {
            how: 'absent' | 'nan';
          }
        ).how
      : null;
  const figure = (workload: string, value: number): number | undefined => {
    const how = broken(workload);
    if (how !== null) return how === 'nan' ? Number.NaN : undefined;
    return value * (1 + NOISE * (2 * random() - 1));
  };
  const entries = scenario.groups.flatMap((group) =>
    readyPods(cluster, group.name).map((pod) =>
      entry('expert', pod.name, worker(scenario, cluster, experts, traffic, group, pod, figure)),
    ),
  );
  const routers = readyPods(cluster, 'router');
  for (const pod of routers) {
    const part = 1 / routers.length;
    entries.push(
      entry('router', pod.name, {
        kind: control.MemberKind.MEMBER_KIND_ROUTER,
        ready: true,
        running: Math.round(traffic.running * part),
        waiting: Math.round(traffic.waiting * part),
        busy: figure('router', traffic.running > 0 ? 1 : 0),
        kvUsage: figure('router', Math.min(1, (traffic.running * part) / scenario.routers.sequences)),
        itlP95Ms: traffic.running > 0 ? figure('router', traffic.itlMs) : undefined,
        ttftP95Ms: traffic.running > 0 ? figure('router', traffic.ttftMs) : undefined,
        decodeStepMs: scenario.tokenMs,
        prefillMsPerToken: 0.1,
        offeredTokensPerSecond: figure('router', traffic.offered * part),
        computedTokensPerSecond: figure('router', traffic.computed * part),
      }),
    );
  }
  const inFlight = Math.ceil(traffic.held + traffic.waiting + traffic.running);
  entries.push(
    entry('gateway', 'gateway-1', {
      kind: control.MemberKind.MEMBER_KIND_GATEWAY,
      ready: true,
      running: inFlight,
      heldRequests: Math.ceil(traffic.held),
    }),
  );
  return entries;
}

function readyPods(cluster: SimCluster, name: string): SimPod[] {
  return cluster.find(name).pods.filter(({ readyMs, endsMs }) => readyMs !== null && endsMs === null);
}

function worker(
  { layers, experts: numExperts }: Scenario,
  cluster: SimCluster,
  experts: SimExperts,
  traffic: SimTraffic,
  group: SimGroup,
  pod: SimPod,
  figure: (workload: string, value: number) => number | undefined,
): Partial<control.Member> {
  const { busy, rows } = traffic.figures.get(pod.name) ?? { busy: 0, rows: 0 };
  const byLayer = (pairs: Iterable<number>): control.LayerHoldings[] => {
    const lists = Array.from({ length: layers }, (_, layer) => ({ layer, experts: [] as number[] }));
    for (const pair of pairs) lists[Math.floor(pair / numExperts)]?.experts.push(pair % numExperts);
    return lists;
  };
  return {
    kind: control.MemberKind.MEMBER_KIND_EXPERT,
    group: group.name,
    ready: experts.holdings(pod.name).size > 0,
    draining: cluster.draining.has(pod.name),
    weightCapacityBytes: BigInt(group.slots) * BYTES,
    expertBytes: BYTES,
    numLayers: layers,
    numExperts,
    holdings: byLayer(experts.holdings(pod.name)),
    partialCheckpoint: group.share !== null,
    loadable: group.share === null ? [] : byLayer(experts.reach(group)),
    busy: figure(group.name, busy),
    rowsPerSecond: figure(group.name, rows),
  };
}

function entry(kind: string, id: string, member: Partial<control.Member>): MemberEntry {
  const value = control.Member.encode(control.Member.fromPartial({ id, incarnation: 1n, ...member })).finish();
  return { kind, id, incarnation: 1n, value: Buffer.from(value) };
}
