import { addUsage, fail, HOUR_MS, MAX_USAGE_HOURS, noUsage, type UsageCounts } from '@guildhall/common';
import { callerOf } from '../caller.ts';
import type { GatewayContext } from '../context.ts';
import { errorResponse } from '../schema/error.ts';
import { usageQuery, type UsageReport, usageReport } from '../schema/usage-report.ts';
import type { GatewayApp } from './types.ts';

const HOUR_S = HOUR_MS / 1000;
const DEFAULT_HOURS = 24;

/** GET /v1/usage: what the caller's own key has used, by the hour. */
export function usageRoute(app: GatewayApp, context: GatewayContext): void {
  app.get(
    '/v1/usage',
    {
      schema: {
        summary: 'Usage of the own key',
        querystring: usageQuery,
        response: { 200: usageReport, default: errorResponse },
      },
    },
    async (request): Promise<UsageReport> => {
      const { tenant, keyId } = callerOf(request);
      const { limits, clock } = context;
      const nowHour = Math.floor(clock.nowMs() / HOUR_MS);
      const { start_time: start, end_time: end } = request.query;
      const toHour = end === undefined ? nowHour + 1 : Math.ceil(end / HOUR_S);
      const fromHour = start === undefined ? toHour - DEFAULT_HOURS : Math.floor(start / HOUR_S);
      checkRange(fromHour, toHour);
      const rows = await limits.accounts.usage.read(fromHour, toHour, { tenant, keyId });
      const total = noUsage();
      for (const row of rows) addUsage(total, row);
      const hours = rows.map((row) => ({ start_time: row.hour * HOUR_S, ...countsOf(row) }));
      return { object: 'usage', key: keyId, tenant, total: countsOf(total), hours };
    },
  );
}

function checkRange(fromHour: number, toHour: number): void {
  if (fromHour >= toHour) throw fail('invalid_value', 'start_time: must be before end_time', { field: 'start_time' });
  if (toHour - fromHour <= MAX_USAGE_HOURS) return;
  const message = `start_time: at most ${MAX_USAGE_HOURS / 24} days are reported at once`;
  throw fail('invalid_value', message, { field: 'start_time' });
}

function countsOf(counts: UsageCounts): UsageReport['total'] {
  return {
    requests: counts.requests,
    input_tokens: counts.inputTokens,
    input_cached_tokens: counts.cachedTokens,
    output_tokens: counts.outputTokens,
    reasoning_tokens: counts.reasoningTokens,
    expert_ms: counts.expertMicros / 1000,
  };
}
