import type { Clock } from '../clock.ts';
import type { Logger } from '../logger.ts';
import type { Metrics } from '../metrics.ts';
import { type TelemetryConfig, traceTarget } from './telemetry-options.ts';
import { NO_TRACING, type Tracing } from './tracing.ts';

export interface OpenTracingOptions {
  config: TelemetryConfig & { cluster?: string; node?: string | null };
  /** Kind of the process: gateway, router, expert, controller. */
  service: string;
  /** Name of the process. */
  id: string;
  env?: Readonly<Record<string, string | undefined>>;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
}

/**
 * Traces of this process, as the configuration and the OTEL_* variables want them. Without a collector the SDK is not
 * even loaded. Throws `config_invalid`.
 */
export async function openTracing(options: OpenTracingOptions): Promise<Tracing> {
  const target = traceTarget(options.config, options.env ?? process.env);
  if (target === null) return NO_TRACING;
  const { SdkTracing } = await import('./sdk/sdk-tracing.ts');
  return await SdkTracing.open(options, target);
}
