import { z } from 'zod';

/** An object whose keys may all be left out and of which no other is taken. */
export function object<T extends z.ZodRawShape>(shape: T): z.ZodObject<{ [K in keyof T]: z.ZodOptional<T[K]> }> {
  return z.strictObject(shape).partial() as z.ZodObject<{ [K in keyof T]: z.ZodOptional<T[K]> }>;
}

/** Strings by name: labels, annotations, node selectors. */
export const strings = z.record(z.string(), z.string());

/** A piece of a Kubernetes object that the API server checks. */
export const passed = z.record(z.string(), z.unknown());
export const passedList = z.array(passed);

/** 500m, 4Gi, or a number. */
export const quantity = z.union([
  z.string().regex(/^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$/),
  z.number().min(0),
]);

export const seconds = z.int().min(0);
export const port = z.int().min(1).max(65_535);
export const nodePort = z.int().min(0).max(65_535).nullable();

/** Name of an object that lies outside of the chart; empty for none. */
export const reference = z.string().regex(/^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$/);

export const resources = object({
  requests: z.record(z.string(), quantity),
  limits: z.record(z.string(), quantity),
  claims: z.array(z.strictObject({ name: z.string(), request: z.string().optional() })),
});

export const tolerations = z.array(
  object({
    key: z.string(),
    operator: z.enum(['Exists', 'Equal', 'Lt', 'Gt']),
    value: z.string(),
    effect: z.enum(['NoSchedule', 'PreferNoSchedule', 'NoExecute']),
    tolerationSeconds: z.int(),
  }),
);

export const env = z.array(
  z.strictObject({ name: z.string().min(1), value: z.string().optional(), valueFrom: passed.optional() }),
);

export const image = object({
  repository: z.string().min(1),
  tag: z.string(),
  digest: z.string().regex(/^(sha256:[0-9a-f]{64})?$/),
  pullPolicy: z.enum(['Always', 'IfNotPresent', 'Never']),
});
