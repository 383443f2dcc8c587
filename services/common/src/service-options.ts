import { isIP } from 'node:net';
import { z } from 'zod';
import { errorMessage, fail, type GuildhallError } from './errors.ts';
import { telemetryOptions } from './telemetry/telemetry-options.ts';
import { parseRedisUrl } from './redis/address.ts';

/** A parsed `host:port`. */
export interface HostPort {
  host: string;
  port: number;
}

/**
 * Reads `127.0.0.1:8000`, `[::1]:8000` or `name:8000`. The name localhost is refused: what it means depends on the
 * machine (IPv4, IPv6 or a resolver). Throws `config_invalid`.
 */
export function parseHostPort(text: string): HostPort {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65535) {
    throw fail('config_invalid', `expected host:port (IPv6 as [::1]:port), got "${text}"`);
  }
  if (match?.[1] !== undefined && isIP(host) !== 6) throw fail('config_invalid', `"${host}" is not an IPv6 address`);
  if (/^localhost\.?$/i.test(host)) {
    throw fail('config_invalid', 'the name localhost is not used; write 127.0.0.1 (or [::1]) instead');
  }
  return { host, port };
}

/** `host:port`, with brackets around IPv6. */
export function formatHostPort(host: string, port: number): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}

/** True for 127.0.0.0/8 and ::1. A name is never loopback: it is not resolved to find out. */
export function isLoopback(host: string): boolean {
  if (isIP(host) === 4) return host.startsWith('127.');
  return isIP(host) === 6 && /^(0{0,4}:){2,7}0{0,3}1$/.test(host);
}

function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || (isIP(host) === 6 && /^[0:]+$/.test(host));
}

/** A zod string that must be `host:port`. */
export function hostPortField(): z.ZodString {
  return z.string().superRefine((text, ctx) => {
    try {
      parseHostPort(text);
    } catch (err) {
      ctx.addIssue({ code: 'custom', message: errorMessage(err) });
    }
  });
}

const redisUrl = z.string().superRefine((text, ctx) => {
  try {
    parseRedisUrl(text);
  } catch (err) {
    ctx.addIssue({ code: 'custom', message: errorMessage(err) });
  }
});

const memberId = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/, 'expected 1 to 63 letters, digits, dots, dashes or underscores');

/** Fields that every service has; spread them into its own schema. */
export const serviceOptions = {
  listen: hostPortField().default('127.0.0.1:0').describe('host:port to serve on; port 0 takes a free one.'),
  advertise: hostPortField()
    .nullable()
    .default(null)
    .describe('host:port under which others reach this process; by default the address it listens on.'),
  adminListen: hostPortField()
    .default('127.0.0.1:0')
    .describe('host:port of /metrics, /health, /started, /ready and /drain.'),
  redis: redisUrl
    .default('redis://127.0.0.1:6379')
    .describe(
      'URL of Redis 7 or newer, or Valkey: redis://host:port, redis-sentinel://host:port,host:port/master or redis-cluster://host:port,host:port; with rediss in front for TLS.',
    )
    .meta({ secret: true }),
  redisUsername: z.string().nullable().default(null).describe('User of Redis; wins over that of the URL.'),
  redisPassword: z
    .string()
    .nullable()
    .default(null)
    .describe('Password of that user, or of a Redis without users; wins over that of the URL.')
    .meta({ secret: true }),
  sentinelUsername: z.string().nullable().default(null).describe('User of the sentinels, where they ask for one.'),
  sentinelPassword: z
    .string()
    .nullable()
    .default(null)
    .describe('Password of the sentinels, where they ask for one.')
    .meta({ secret: true }),
  cluster: memberId.default('default').describe('Name of the cluster; processes with the same name find each other.'),
  id: memberId.nullable().default(null).describe('Name of this process, stable over restarts, such as expert-1.'),
  node: z
    .string()
    .max(253)
    .default('')
    .describe('Machine that this process runs on; in Kubernetes spec.nodeName by the downward API.'),
  clusterToken: z
    .string()
    .min(8)
    .nullable()
    .default(null)
    .describe('Secret that the processes of a cluster show each other.')
    .meta({ secret: true }),
  tlsCert: z.string().nullable().default(null).describe('PEM file with the certificate of this process.'),
  tlsKey: z.string().nullable().default(null).describe('PEM file with the key of that certificate.'),
  tlsCa: z
    .string()
    .nullable()
    .default(null)
    .describe('PEM file with the authority that certificates of peers must come from.'),
  tlsServerName: z
    .string()
    .min(1)
    .max(253)
    .nullable()
    .default(null)
    .describe(
      'Name that the certificate of every peer must carry, where peers are reached at addresses that no certificate names; by default the address is checked.',
    ),
  redisCa: z
    .string()
    .nullable()
    .default(null)
    .describe(
      'PEM file with the authority of the certificate of a rediss:// server; by default those that Node trusts.',
    ),
  logLevel: z
    .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
    .default('info')
    .describe('Least level that is logged.'),
  ...telemetryOptions,
  readyFd: z
    .int()
    .min(1)
    .nullable()
    .default(null)
    .describe('File descriptor that also gets the listening line, for a parent that reads stdout for something else.'),
  parentPipe: z.boolean().default(false).describe('Shut down when stdin ends, which it does when the parent dies.'),
};

/** What a service's configuration has at least. */
export type ServiceConfig = z.output<z.ZodObject<typeof serviceOptions>>;

/** Secret that must be there before a service may be reached from other machines. */
export interface ListenGuard {
  /** True when the service checks credentials. */
  authenticated: boolean;
  /** How to get there, for the error. */
  remedy: string;
}

/**
 * Refuses a listen address that other machines can reach unless the service authenticates its callers: by default
 * with a cluster token; the gateway passes its API keys as the guard. Throws `insecure_listen`.
 */
export function refuseInsecureListen(
  config: Pick<ServiceConfig, 'listen' | 'clusterToken'> & { adminListen?: string },
  guard: ListenGuard = {
    authenticated: config.clusterToken !== null,
    remedy: 'set --cluster-token (GUILDHALL_CLUSTER_TOKEN)',
  },
): void {
  if (guard.authenticated) return;
  for (const field of ['listen', 'adminListen'] as const) {
    const text = config[field];
    if (text === undefined || isLoopback(parseHostPort(text).host)) continue;
    const message = `${text} can be reached from other machines and nothing authenticates callers: ${guard.remedy} or listen on 127.0.0.1`;
    throw fail('insecure_listen', message, { field });
  }
}

/**
 * Address to announce for a listener bound to `bound`. Throws `config_invalid` when it listens on all interfaces
 * and nothing says which one others should use.
 */
export function advertisedAddress(config: { advertise: string | null }, bound: string): string {
  const { host, port } = parseHostPort(bound);
  if (config.advertise !== null) {
    const own = parseHostPort(config.advertise);
    return formatHostPort(own.host, own.port === 0 ? port : own.port);
  }
  if (isWildcard(host)) throw advertiseMissing();
  return bound;
}

/**
 * host:port under which others reach the admin server bound to `bound`: the advertised host where it listens on all
 * interfaces. Throws `config_invalid` when nothing says which host that is.
 */
export function advertisedAdmin(config: { advertise: string | null }, bound: string): string {
  const { host, port } = parseHostPort(bound);
  if (!isWildcard(host)) return bound;
  if (config.advertise === null) throw advertiseMissing();
  return formatHostPort(parseHostPort(config.advertise).host, port);
}

function advertiseMissing(): GuildhallError {
  return fail('config_invalid', '--advertise is required when listening on all interfaces', { field: 'advertise' });
}
