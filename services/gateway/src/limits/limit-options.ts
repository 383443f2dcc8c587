import { isIP } from 'node:net';
import { z } from 'zod';

const minutely = (what: string) =>
  z
    .int()
    .min(1)
    .max(1_000_000_000)
    .nullable()
    .default(null)
    .describe(`${what} that each tenant may use, all its keys together; no limit without.`);

const network = z.string().refine((text) => {
  const [address = '', bits, ...rest] = text.split('/');
  const version = isIP(address);
  if (version === 0 || rest.length > 0) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (version === 4 ? 32 : 128));
}, 'expected an address or a network, such as 10.0.0.0/8');

const origin = z.string().refine((text) => {
  if (text === '*') return true;
  return URL.canParse(text) && /^https?:$/.test(new URL(text).protocol) && new URL(text).origin === text;
}, 'expected an origin, such as https://app.example.com, or *');

/** Options of keys, quotas, usage and admission. */
export const limitOptions = {
  accounts: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/, 'expected 1 to 63 letters, digits, dots, dashes or underscores')
    .nullable()
    .default(null)
    .describe(
      'Name under which keys, quotas and usage are kept in Redis; clusters of one name share them. By default that of the cluster.',
    ),
  requireKey: z
    .boolean()
    .default(false)
    .describe('Refuse callers without a key, also where only `guildhall keys` has made some.'),
  keyCacheMs: z
    .int()
    .min(100)
    .max(60_000)
    .default(3000)
    .describe(
      'Oldest knowledge of a key of Redis that it is let in by; a revoked key is refused after that at the latest.',
    ),
  trustedProxies: z
    .array(network)
    .max(64)
    .default([])
    .describe(
      'Addresses or networks of proxies whose X-Forwarded-For is believed, so that wrong keys count for who sent them.',
    ),
  corsOrigins: z
    .array(origin)
    .max(64)
    .default([])
    .describe('Origins of web pages that may call the API from a browser; * for all. None by default.'),
  maxConnections: z
    .int()
    .min(1)
    .max(1_000_000)
    .default(16_384)
    .describe('Connections at a time; more are closed at once.'),
  stallMs: z
    .int()
    .min(0)
    .max(3_600_000)
    .default(60_000)
    .describe(
      'How long a client may leave a stream unread before its request is cancelled; 0 for as long as it likes.',
    ),
  maxQueued: z
    .int()
    .min(0)
    .max(100_000)
    .default(256)
    .describe('Completions that wait for a place among those that run; more are refused with 503.'),
  queueMs: z
    .int()
    .min(1)
    .max(3_600_000)
    .default(10_000)
    .describe('How long one of them waits at most; then it is refused with 503.'),
  quotaFailure: z
    .enum(['open', 'closed'])
    .default('open')
    .describe('Whether requests are let in (open) or refused with 503 (closed) while Redis cannot check their quotas.'),
  tenantRequestsPerMinute: minutely('Requests per minute'),
  tenantTokensPerMinute: minutely('Tokens per minute, of prompts and answers,'),
  tenantConcurrency: minutely('Completions at a time'),
  quotaOutputTokens: z
    .int()
    .min(0)
    .max(1_000_000)
    .default(1024)
    .describe(
      'Most tokens of an answer that are taken from a quota in advance; what it has in the end is settled then.',
    ),
  usageDays: z.int().min(1).max(396).default(90).describe('Days for which the usage of each hour is kept in Redis.'),
  metricTenants: z
    .int()
    .min(0)
    .max(1000)
    .default(50)
    .describe('Tenants that have metrics of their own, the first ones to come; the others share the label `other`.'),
};
