import type { GatewayContext } from './context.ts';

/** Tiers that requests may ask for. */
export const SERVICE_TIERS = ['auto', 'default', 'flex', 'priority', 'scale', 'fast'] as const;

/** A tier that an answer was served in. */
export type ServedTier = 'default' | 'flex' | 'priority';

/** What the tiers mean, as `priority` counts: lower is served earlier. */
const PRIORITY: Record<ServedTier, number> = { default: 0, flex: 10, priority: -10 };

/** True where callers may push past each other. */
export function mayHurry({ config, limits }: Pick<GatewayContext, 'config' | 'limits'>): boolean {
  return config.allowPriority === 'auto' ? !limits.auth.required : config.allowPriority === 'on';
}

/**
 * The tier that a request gets, null where it asks for none. `priority` is the default tier where callers may not push
 * past each other: as OpenAI does it, the answer says what was served.
 */
export function servedTier(
  context: Pick<GatewayContext, 'config' | 'limits'>,
  asked: (typeof SERVICE_TIERS)[number] | null | undefined,
): ServedTier | null {
  if (asked === null || asked === undefined) return null;
  if (asked === 'flex' || (asked === 'priority' && mayHurry(context))) return asked;
  return 'default';
}

/** The priority that a tier means; lower is served earlier. */
export function tierPriority(tier: ServedTier | null): number {
  return tier === null ? 0 : PRIORITY[tier];
}
