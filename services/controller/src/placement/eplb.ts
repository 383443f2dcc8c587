import { replicate } from './replicate.ts';

/** What plain EPLB is told of the cluster. */
export interface EplbShape {
  /** Replicas of each layer in all, a multiple of `gpus`. */
  replicas: number;
  /** Groups of consecutive experts that belong together; a multiple of `nodes` for the hierarchical policy. */
  groups: number;
  nodes: number;
  /** A multiple of `nodes`. */
  gpus: number;
}

/**
 * DeepSeek's expert parallelism load balancer, by its published description: the hierarchical policy (groups to nodes,
 * replicas within nodes, replicas to GPUs) where the groups divide by the nodes, else the global one. It knows neither memory
 * nor speed nor what is in place: every GPU gets the same number of replicas. Our planner uses its replication; the whole
 * is what plans are compared with.
 * @param loads of one layer's experts. @returns the expert of each replica; GPU g has replicas g*n up to (g+1)*n.
 */
export function eplb(loads: readonly number[], shape: EplbShape): number[] {
  const { replicas, gpus } = shape;
  const { groups, nodes } = shape.groups % shape.nodes === 0 ? shape : { groups: 1, nodes: 1 };
  const groupSize = loads.length / groups;
  const groupLoads = Array.from({ length: groups }, (_, group) =>
    sum(loads.slice(group * groupSize, (group + 1) * groupSize)),
  );
  return balancedPacking(groupLoads, nodes).flatMap((ofNode) => {
    const experts = ofNode.flatMap((group) => Array.from({ length: groupSize }, (_, i) => group * groupSize + i));
    return packNode(experts, loads, replicas / nodes, gpus / nodes);
  });
}

/** Replicates the experts of one node and packs the replicas onto its GPUs. */
function packNode(experts: readonly number[], loads: readonly number[], replicas: number, gpus: number): number[] {
  const own = experts.map((expert) => loads[expert] as number);
  const order = replicateExperts(own, replicas);
  const copies = new Int32Array(experts.length);
  for (const index of order) copies[index] = (copies[index] as number) + 1;
  const each = order.map((index) => (own[index] as number) / (copies[index] as number));
  return balancedPacking(each, gpus).flatMap((ofGpu) =>
    ofGpu.map((replica) => experts[order[replica] as number] as number),
  );
}

/** The expert of each replica: every expert once, then each next one for the expert with the largest load per replica. */
export function replicateExperts(loads: readonly number[], replicas: number): number[] {
  const copies = new Int32Array(loads.length).fill(1);
  const order = loads.map((_, expert) => expert);
  const budget = replicas - loads.length;
  replicate(loads, copies, { budget, most: Infinity, enough: -1, onEach: (expert) => order.push(expert) });
  return order;
}

/**
 * Packs weighted items into packs of equal count, heaviest first, each into the lightest pack that is not full.
 * @returns the items of each pack in the order in which they were put in.
 */
export function balancedPacking(weights: readonly number[], packs: number): number[][] {
  const each = weights.length / packs;
  // With one item each there is nothing to balance, and the published algorithm leaves the order alone.
  if (each === 1) return weights.map((_, item) => [item]);
  const packed: number[][] = Array.from({ length: packs }, () => []);
  const load = new Float64Array(packs);
  const heaviest = weights
    .map((_, item) => item)
    .sort((a, b) => (weights[b] as number) - (weights[a] as number) || a - b);
  for (const item of heaviest) {
    let lightest = -1;
    for (let pack = 0; pack < packs; pack++) {
      if ((packed[pack]?.length ?? 0) >= each) continue;
      if (lightest === -1 || (load[pack] as number) < (load[lightest] as number)) lightest = pack;
    }
    packed[lightest]?.push(item);
    load[lightest] = (load[lightest] as number) + (weights[item] as number);
  }
  return packed;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
