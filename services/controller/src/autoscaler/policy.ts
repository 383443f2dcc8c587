import { z } from 'zod';

const share = z.number().gt(0).max(1);

/** Bounds of one workload. */
const bounds = {
  /** Name of the Deployment, which is the target of /scale. */
  deployment: z.string().min(1).max(253).describe('Deployment that is scaled.'),
  min: z.int().min(0).max(10_000).default(1).describe('Replicas at least, unless the whole model is scaled to zero.'),
  max: z.int().min(1).max(10_000).default(1).describe('Replicas at most.'),
  gpusPerReplica: z.number().min(0).max(64).default(0).describe('What a replica takes of the budget.'),
  pricePerHour: z.number().min(0).default(0).describe('Price of a replica; of equal choices the cheaper one is taken.'),
};

/** A group of workers that are scaled together. */
export const groupPolicySchema = z.strictObject({
  name: z
    .string()
    .regex(/^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$/)
    .describe('Name of the group; workers say it as --group.'),
  ...bounds,
  redundancy: z
    .int()
    .min(1)
    .max(64)
    .default(1)
    .describe('Workers that must be ready at every instant, where the group alone has a share of the experts.'),
});

export const routerPolicySchema = z.strictObject({
  ...bounds,
  kvTarget: share.default(0.8).describe('Share of the KV pages that sequences are to use.'),
  prefillBacklogMs: z
    .int()
    .min(10)
    .max(600_000)
    .default(1000)
    .describe('Work on prompts that may wait in a router, in ms; more of it calls for another router.'),
});

/** What the autoscaler may do; the chart writes it, `guildhall serve controller --autoscaler-policy FILE` reads it. */
export const autoscalerPolicySchema = z
  .strictObject({
    mode: z
      .enum(['off', 'recommend', 'active'])
      .default('recommend')
      .describe('off: nothing is computed. recommend: decisions are told and not carried out. active: they are.'),
    groups: z.array(groupPolicySchema).max(256).default([]).describe('Expert groups.'),
    routers: routerPolicySchema.nullable().default(null).describe('Routers; null when something else scales them.'),
    gpuBudget: z.number().min(0).nullable().default(null).describe('GPUs of all groups and routers together at most.'),
    evaluateMs: z.int().min(100).max(600_000).default(5000).describe('Time between two evaluations, in ms.'),
    targetUtilisation: share.default(0.7).describe('Share of its time that a worker or router is to compute.'),
    scaleDownUtilisation: share
      .default(0.5)
      .describe(
        'A replica may go when the others would stay below this with its load; at most targetUtilisation / headroom.',
      ),
    scaleDownAfterMs: z
      .int()
      .min(0)
      .max(86_400_000)
      .default(300_000)
      .describe('Time that a replica must have been superfluous before it goes, in ms.'),
    headroom: z.number().min(1).max(10).default(1.2).describe('Factor on the measured load.'),
    warmUpMs: z
      .int()
      .min(0)
      .max(3_600_000)
      .default(60_000)
      .describe('What a replica measures so soon after it became ready does not count, in ms.'),
    pendingTimeoutMs: z
      .int()
      .min(1000)
      .max(86_400_000)
      .default(900_000)
      .describe(
        'A replica that cannot be scheduled for so long is given up if it is not needed, and told in any case.',
      ),
    foreignHoldMs: z
      .int()
      .min(0)
      .max(86_400_000)
      .default(600_000)
      .describe(
        'Time for which a Deployment is left alone after somebody else has set its replicas, in ms; doubled each time it happens again within an hour.',
      ),
    slo: z
      .strictObject({
        ttftP95Ms: z
          .number()
          .gt(0)
          .nullable()
          .default(null)
          .describe('Time to the first token, 95th percentile, in ms.'),
        itlP95Ms: z
          .number()
          .gt(0)
          .nullable()
          .default(null)
          .describe('Time between two tokens, 95th percentile, in ms.'),
      })
      .default({ ttftP95Ms: null, itlP95Ms: null }),
    scaleToZero: z
      .strictObject({
        enabled: z.boolean().default(false).describe('Whether the whole model may be scaled to zero.'),
        idleMs: z
          .int()
          .min(1000)
          .max(604_800_000)
          .default(1_800_000)
          .describe('Time without a request before it is, in ms.'),
      })
      .default({ enabled: false, idleMs: 1_800_000 }),
  })
  .superRefine((policy, ctx) => {
    const { targetUtilisation, headroom, scaleDownUtilisation, groups, routers, scaleToZero } = policy;
    const refuse = (path: (string | number)[], message: string): void =>
      ctx.addIssue({ code: 'custom', path, message });
    if (scaleDownUtilisation > targetUtilisation / headroom)
      refuse(
        ['scaleDownUtilisation'],
        `must not be above targetUtilisation / headroom (${(targetUtilisation / headroom).toFixed(3)}), or replicas that go are called back at once`,
      );
    for (const [at, { min, max }] of groups.entries())
      if (min > max) refuse(['groups', at, 'min'], `is above max (${max})`);
    if (routers !== null && routers.min > routers.max) refuse(['routers', 'min'], `is above max (${routers.max})`);
    for (const field of ['name', 'deployment'] as const) {
      const values = groups.map((group) => group[field]);
      const twice = values.findIndex((value, at) => values.indexOf(value) !== at);
      if (twice !== -1) refuse(['groups', twice, field], `${values[twice]} is there twice`);
    }
    if (scaleToZero.enabled && routers === null)
      refuse(['scaleToZero', 'enabled'], 'needs routers: the whole model goes to zero, with them');
  });

export type AutoscalerPolicy = z.output<typeof autoscalerPolicySchema>;
export type GroupPolicy = z.output<typeof groupPolicySchema>;
export type RouterPolicy = z.output<typeof routerPolicySchema>;
