import { serviceOptions } from '@guildhall/common';
import { z } from 'zod';

/** Configuration of a controller. */
export const controllerSchema = z.strictObject({
  ...serviceOptions,
  minWorkers: z.int().min(1).max(100_000).default(1).describe('Workers to wait for before the first placement.'),
  replicas: z
    .int()
    .min(1)
    .max(64)
    .default(1)
    .describe('Copies of each expert at least, in different failure domains, as far as workers and memory allow.'),
  maxReplicas: z.int().min(1).max(1024).default(4).describe('Copies that a much used expert gets at most.'),
  settleMs: z
    .int()
    .min(0)
    .max(60_000)
    .default(1000)
    .describe('Time without a further join before a placement for the joined ones, in ms.'),
  rebalanceMs: z
    .int()
    .min(0)
    .max(86_400_000)
    .default(60_000)
    .describe('Time between two looks whether moving experts for their load would pay, in ms; 0 for never.'),
  rebalanceThreshold: z
    .number()
    .min(0)
    .max(10)
    .default(0.1)
    .describe('Share of the predicted step time that a move must save.'),
  workerPriceUs: z
    .number()
    .min(0)
    .max(1_000_000)
    .default(5)
    .describe(
      'What one more worker per token is worth, in µs of a layer: tokens of a step times bytes of a row over the rate of the link. 5 suits small models, 180 the 397B shape on 100 Gbit/s.',
    ),
  movePriceUs: z
    .number()
    .min(0)
    .max(1_000_000)
    .default(0.01)
    .describe('What a step must get shorter by for each MiB of experts that moves, in µs.'),
  loadHalfLifeMs: z
    .int()
    .min(1000)
    .max(86_400_000)
    .default(300_000)
    .describe('Time after which a token counts half in the load of its experts, in ms.'),
  loadPatienceMs: z
    .int()
    .min(1000)
    .max(86_400_000)
    .default(60_000)
    .describe('Time without progress after which what a worker cannot load is planned elsewhere, in ms.'),
  kubernetes: z
    .enum(['auto', 'on', 'off'])
    .default('auto')
    .describe(
      'Whether this runs on Kubernetes: auto is on in a pod with a token of its service account and --release; on also takes a kubeconfig.',
    ),
  namespace: z
    .string()
    .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'expected the name of a namespace')
    .nullable()
    .default(null)
    .describe('Namespace of the release; by default that of the pod or of the kubeconfig.'),
  release: z
    .string()
    .regex(/^[a-z0-9]([-a-z0-9.]{0,51}[a-z0-9])?$/, 'expected the name of a Helm release')
    .nullable()
    .default(null)
    .describe('Release whose objects are watched: the value of their label app.kubernetes.io/instance.'),
  leaseName: z
    .string()
    .regex(/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/, 'expected the name of a Lease')
    .nullable()
    .default(null)
    .describe('Lease by which controllers elect the leader on Kubernetes; by default RELEASE-controller.'),
  autoscalerPolicy: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .describe(
      'JSON file that says what the autoscaler may do; read again for each evaluation. Without it nothing is scaled. Needs Kubernetes.',
    ),
  watchAgeMs: z
    .int()
    .min(1000)
    .max(3_600_000)
    .default(120_000)
    .describe(
      'Time without a word from a watch after which everything is listed anew, in ms; API servers say something about once a minute.',
    ),
});

export type ControllerConfig = z.output<typeof controllerSchema>;
