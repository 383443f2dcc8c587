import { z } from 'zod';
import { fail } from '../errors.ts';

const otlpUrl = z.string().superRefine((text, ctx) => {
  const url = URL.parse(text);
  if (url === null || !['http:', 'https:'].includes(url.protocol) || url.hostname === '') {
    ctx.addIssue({ code: 'custom', message: 'expected a URL like http://collector:4317' });
  } else if (url.hostname === 'localhost') {
    ctx.addIssue({ code: 'custom', message: 'the name localhost is not used; write 127.0.0.1 (or [::1]) instead' });
  } else if (url.username !== '' || url.password !== '') {
    ctx.addIssue({ code: 'custom', message: 'credentials do not belong here; set OTEL_EXPORTER_OTLP_HEADERS' });
  }
});

/** How spans are sent. */
export type OtlpProtocol = 'grpc' | 'http/protobuf';

/** Options of every service for traces. */
export const telemetryOptions = {
  otlpEndpoint: otlpUrl
    .nullable()
    .default(null)
    .describe(
      'URL of an OpenTelemetry collector that traces are sent to, such as http://127.0.0.1:4317; by default OTEL_EXPORTER_OTLP_ENDPOINT, and without it no traces are made.',
    ),
  otlpProtocol: z
    .enum(['auto', 'grpc', 'http/protobuf'])
    .default('auto')
    .describe(
      'How traces are sent. auto takes OTEL_EXPORTER_OTLP_PROTOCOL if that is set, else http/protobuf to port 4318 or a URL with a path, and grpc to any other.',
    ),
  traceRatio: z
    .number()
    .min(0)
    .max(1)
    .nullable()
    .default(null)
    .describe(
      'Share of the requests without a trace context of their caller that are traced; by default OTEL_TRACES_SAMPLER_ARG, or 0.01. A caller that sends traceparent decides itself.',
    ),
  traceStepRatio: z
    .number()
    .min(0)
    .max(1)
    .default(0.02)
    .describe(
      'Share of the steps of a traced request that get spans of their own, with one for each message to a worker: 0.02 is the first of every 50.',
    ),
  traceContent: z
    .boolean()
    .default(false)
    .describe('Put prompts and answers into traces. They may hold what nobody else should read.'),
};

/** What of a configuration is about traces. */
export type TelemetryConfig = z.output<z.ZodObject<typeof telemetryOptions>>;

/** Where and how traces go. */
export interface TraceTarget {
  url: string;
  protocol: OtlpProtocol;
  ratio: number;
}

type Environment = Readonly<Record<string, string | undefined>>;

const DEFAULT_RATIO = 0.01;
const HTTP_PORT = '4318';
const TRACES_PATH = '/v1/traces';

/**
 * Puts the options and the standard OTEL_* variables together; options win. Null when traces are off: without an
 * endpoint, or with OTEL_SDK_DISABLED=true or OTEL_TRACES_EXPORTER=none. Throws `config_invalid` naming the variable.
 */
export function traceTarget(config: TelemetryConfig, env: Environment): TraceTarget | null {
  if (env['OTEL_SDK_DISABLED']?.toLowerCase() === 'true' || env['OTEL_TRACES_EXPORTER'] === 'none') return null;
  const found = endpointOf(config, env);
  if (found === null) return null;
  const { url, exact } = found;
  const protocol = protocolOf(config, env, url);
  return { url: protocol === 'grpc' || exact ? url.href : httpUrl(url), protocol, ratio: ratioOf(config, env) };
}

/** `exact` when the URL is that of the traces themselves, to be used as it is. */
function endpointOf({ otlpEndpoint }: TelemetryConfig, env: Environment): { url: URL; exact: boolean } | null {
  if (otlpEndpoint !== null) return { url: new URL(otlpEndpoint), exact: false };
  const exact = readUrl(env, 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT');
  if (exact !== null) return { url: exact, exact: true };
  const url = readUrl(env, 'OTEL_EXPORTER_OTLP_ENDPOINT');
  return url === null ? null : { url, exact: false };
}

function readUrl(env: Environment, name: string): URL | null {
  const text = env[name];
  if (text === undefined || text === '') return null;
  const url = URL.parse(text);
  if (url !== null && ['http:', 'https:'].includes(url.protocol)) return url;
  throw fail('config_invalid', `${name}: expected a URL like http://collector:4317`, { field: 'otlpEndpoint' });
}

function protocolOf({ otlpProtocol }: TelemetryConfig, env: Environment, url: URL): OtlpProtocol {
  if (otlpProtocol !== 'auto') return otlpProtocol;
  const name = env['OTEL_EXPORTER_OTLP_TRACES_PROTOCOL']
    ? 'OTEL_EXPORTER_OTLP_TRACES_PROTOCOL'
    : 'OTEL_EXPORTER_OTLP_PROTOCOL';
  const text = env[name] ?? '';
  if (text === 'grpc' || text === 'http/protobuf') return text;
  if (text !== '') {
    const message = `${name}: "${text}" is not supported; use grpc or http/protobuf`;
    throw fail('config_invalid', message, { field: 'otlpProtocol' });
  }
  return url.port === HTTP_PORT || url.pathname !== '/' ? 'http/protobuf' : 'grpc';
}

function httpUrl(url: URL): string {
  if (url.pathname.endsWith(TRACES_PATH)) return url.href;
  const whole = new URL(url);
  whole.pathname = `${url.pathname.replace(/\/$/, '')}${TRACES_PATH}`;
  return whole.href;
}

function ratioOf({ traceRatio }: TelemetryConfig, env: Environment): number {
  if (traceRatio !== null) return traceRatio;
  const text = env['OTEL_TRACES_SAMPLER_ARG'] ?? '';
  if (text === '') return DEFAULT_RATIO;
  const ratio = Number(text);
  if (ratio >= 0 && ratio <= 1) return ratio;
  const message = `OTEL_TRACES_SAMPLER_ARG: expected a number from 0 to 1, got "${text}"`;
  throw fail('config_invalid', message, { field: 'traceRatio' });
}
