/** Types of the planner: data in, data out, nothing else. */

/** A worker that may hold experts. */
export interface PlanWorker {
  id: string;
  /** Bytes for expert weights. */
  memoryBytes: number;
  /** Measured microseconds for one expert row, and for one message besides its rows; 0 where not measured yet. */
  usPerRow: number;
  usPerMessage: number;
  /** Replicas of an expert share it. */
  numericsId: string;
  /** Rack, zone or machine; an empty one is a domain of its own. */
  failureDomain: string;
  /** Gets nothing that another can hold. */
  draining: boolean;
  /** Which experts it can load; null for all. */
  can: ((layer: number, expert: number) => boolean) | null;
}

/** Worker indexes of each expert, ascending: holders[layer][expert]. */
export interface Assignment {
  /** Ids, sorted; holders refer to them by index. */
  workers: string[];
  holders: number[][][];
}

export interface PlanInput {
  numLayers: number;
  numExperts: number;
  topK: number;
  /** Bytes of one expert in the format in which workers keep it. */
  expertBytes: number;
  workers: readonly PlanWorker[];
  /** Tokens of each (layer, expert) over the measured time, [layer*numExperts+expert]; all zero counts as even. */
  loads: Float64Array;
  /** Sampled top-k sets of each layer, u16[n][topK] flat, distinct numbers below numExperts; null or empty where unknown: then experts are independent. */
  samples: readonly (Uint16Array | null)[] | null;
  /** Tokens of the step that costs are predicted for. */
  batchTokens: number;
  /** What is in force; null for none. */
  current: Assignment | null;
  /** What workers hold or have begun to hold besides, by id: no bytes need move for it. */
  held: (worker: string, layer: number, expert: number) => boolean;
  /** Copies that every expert has, in different failure domains, as far as workers and memory allow. */
  minReplicas: number;
  /** Copies that one expert gets at most. */
  maxReplicas: number;
  /** Whether workers of different numerics classes may hold different experts of one model. */
  allowMixedNumerics: boolean;
  weights: PlanWeights;
}

/** What the objective weighs. */
export interface PlanWeights {
  /**
   * Share of the predicted step time that a plan must gain for experts to move, 0.1 for a tenth. With Infinity only what
   * must move does, and nothing else is looked for, which takes a fraction of the time.
   */
  threshold: number;
  /** Microseconds that one more worker per token and layer is worth. */
  usPerExtraWorker: number;
  /** Microseconds of step time that must be saved for each MiB moved. */
  usPerMovedMib: number;
}

/** What an assignment is predicted to cost. */
export interface PlanCost {
  /** Slowest worker's microseconds per layer, summed over the layers, for a step of `batchTokens`. */
  stepUs: number;
  /** Largest predicted time of a worker over the mean, averaged over layers. */
  imbalance: number;
  /** Distinct workers that one token's experts of a layer are on, mean over layers. */
  workersPerToken: number;
  /** Bytes of weights that must be moved from what is held now. */
  bytesMoved: number;
  /** Least copies of any expert, and in how many failure domains they are. */
  leastCopies: number;
  leastDomains: number;
}

export type PlanResult =
  | { kind: 'planned'; assignment: Assignment; cost: PlanCost; before: PlanCost | null; changed: boolean; why: string }
  | { kind: 'short'; why: string; neededBytes: number; memoryBytes: number };
