/**
 * Why the autoscaler does something or does not; the closed list, since each is a label of a metric. The text says it to people.
 */
export const REASONS = {
  steady: 'the replicas are right',
  load: 'the measured load needs them',
  kv: 'sequences use more of the KV pages than they are to',
  queue: 'requests wait to be admitted',
  prefill: 'more prompt work waits than is to',
  ttft: 'the first token comes later than the objective',
  itl: 'tokens come slower than the objective',
  minimum: 'fewer than the policy asks for',
  maximum: 'more than the policy allows',
  memory: 'the experts need more memory',
  superfluous: 'the others carry the load',
  idle: 'nobody has asked for the model for long',
  wake: 'requests wait for the model',
  asleep: 'the model sleeps',
  over_budget: 'more GPUs are in use than the budget has',
  rebalance: 'another group gains more from the GPUs',
  unschedulable: 'the scheduler finds no place for a replica',
  taken_back: 'the load has come back before the replica was gone',
  // What holds a change back.
  no_metrics: 'metrics are missing, which is not the same as no load',
  foreign_writer: 'somebody else has set the replicas',
  other_scaler: 'another autoscaler has the Deployment',
  paused: 'an annotation pauses it',
  coverage: 'an expert would be without a ready worker',
  survivors: 'the others could not carry the load',
  window: 'it has not been superfluous for long enough',
  settling: 'the last change is too young',
  budget: 'the GPU budget is used up',
  shrinking: 'a replica is being drained',
  objective: 'more replicas would not meet the objective',
} as const;

export type Reason = keyof typeof REASONS;
