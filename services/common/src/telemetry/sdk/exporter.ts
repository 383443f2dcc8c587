import type { SpanExporter } from '@opentelemetry/sdk-trace';
import type { TraceTarget } from '../telemetry-options.ts';

/**
 * The exporter for a target. The packages are experimental and are imported nowhere else; they read headers, certificates,
 * compression and the like from the OTEL_EXPORTER_OTLP_* variables by themselves.
 */
export async function openExporter({ url, protocol }: TraceTarget, timeoutMs: number): Promise<SpanExporter> {
  if (protocol === 'grpc') {
    const { OTLPTraceExporter } = await import('@opentelemetry/exporter-trace-otlp-grpc');
    return new OTLPTraceExporter({ url, timeoutMillis: timeoutMs });
  }
  const { OTLPTraceExporter } = await import('@opentelemetry/exporter-trace-otlp-proto');
  return new OTLPTraceExporter({ url, timeoutMillis: timeoutMs });
}
