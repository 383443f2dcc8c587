import { type AutoscalerPolicy, autoscalerPolicySchema } from '../policy.ts';
import { constant, diurnal, ramp, type Scenario, type SimGroup, spikes, step } from './scenario.ts';

const MINUTE = 60_000;
const LAYERS = 2;
const EXPERTS = 16;

/** Groups that own a share each, or one that takes any expert. */
export function groupsOf(kind: 'shares' | 'any', replicas = 2): SimGroup[] {
  const common = { rowsPerSecond: 10_000, replicas, gpus: 1 };
  if (kind === 'any') return [{ name: 'any', share: null, slots: LAYERS * EXPERTS, ...common }];
  const half = EXPERTS / 2;
  return ['left', 'right'].map((name, at) => ({
    name,
    share: { from: at * half, count: half },
    slots: LAYERS * half,
    ...common,
  }));
}

type PolicyInput = Partial<Omit<AutoscalerPolicy, 'groups' | 'routers'>> & { max?: number };

/** A policy for these groups. */
export function policyFor(groups: readonly SimGroup[], given: PolicyInput = {}): AutoscalerPolicy {
  const { max = 12, ...rest } = given;
  return autoscalerPolicySchema.parse({
    mode: 'active',
    groups: groups.map(({ name, gpus }) => ({ name, deployment: name, min: 1, max, gpusPerReplica: gpus })),
    routers: { deployment: 'router', min: 1, max: 8 },
    ...rest,
  });
}

/** A cluster under a load; what is given replaces the defaults. One request a second is 800 rows a second. */
export function scenario(name: string, given: Partial<Scenario> = {}): Scenario {
  const groups = given.groups ?? groupsOf('shares');
  return {
    name,
    policy: policyFor(groups),
    groups,
    routers: { replicas: 2, gpus: 0, sequences: 256 },
    layers: LAYERS,
    experts: EXPERTS,
    topK: 2,
    gpus: 64,
    coldStartMs: 2 * MINUTE,
    warmUp: { forMs: 45_000, speed: 0.4 },
    load: constant(10),
    popularity: null,
    tokens: 200,
    tokenMs: 50,
    faults: [],
    forMs: 60 * MINUTE,
    seed: 1,
    ...given,
  };
}

/** Half of the experts become ten times as popular as the others at a time. */
export function hotShift(atMs: number): NonNullable<Scenario['popularity']> {
  const weights = (hot: number): number[] => {
    const all = Array.from({ length: EXPERTS }, (_, expert) => (Math.floor(expert / (EXPERTS / 2)) === hot ? 4 : 1));
    const sum = all.reduce((total, one) => total + one, 0);
    return all.map((one) => one / sum);
  };
  const before = weights(0);
  const after = weights(1);
  return (nowMs) => (nowMs < atMs ? before : after);
}

/** The loads that are told of in docs/autoscaling.md. */
export const SCENARIOS: Readonly<Record<string, () => Scenario>> = {
  step: () => scenario('step', { load: step(20 * MINUTE, 12, 36) }),
  ramp: () => scenario('ramp', { load: ramp(10 * MINUTE, 40 * MINUTE, 5, 60) }),
  spikes: () => scenario('spikes', { load: spikes(15 * MINUTE, MINUTE, 10, 40) }),
  diurnal: () => scenario('diurnal', { load: diurnal(120 * MINUTE, 4, 60), forMs: 240 * MINUTE }),
  'to-zero': () => {
    const groups = groupsOf('shares');
    const policy = policyFor(groups, { scaleToZero: { enabled: true, idleMs: 10 * MINUTE } });
    const load: Scenario['load'] = (atMs) => (atMs < 15 * MINUTE ? 10 : atMs < 50 * MINUTE ? 0 : 10);
    return scenario('to-zero', { groups, policy, load, forMs: 80 * MINUTE });
  },
  'hot-experts': () => scenario('hot-experts', { load: constant(25), popularity: hotShift(25 * MINUTE) }),
  'any-expert': () => scenario('any-expert', { groups: groupsOf('any'), load: step(20 * MINUTE, 6, 18) }),
};
