import type { IncomingHttpHeaders } from 'node:http';
import { fail, sameSecret } from '@guildhall/common';
import type { ApiKeys } from './auth.ts';

/** Who sent a request. */
export interface Caller {
  /** Whom it is for, '' where no key is required. */
  tenant: string;
  /** It comes from the batch service and gives way to others. */
  background: boolean;
}

/** Header by which a process of the cluster says on whose behalf it asks. */
export const TENANT_HEADER = 'x-guildhall-tenant';
const TENANT = /^[A-Za-z0-9_.-]{0,63}$/;

/** The key of a request as an Authorization header; Anthropic's clients send it as `x-api-key`. */
export function credentialOf({ authorization, 'x-api-key': key }: IncomingHttpHeaders): string | undefined {
  if (authorization !== undefined || typeof key !== 'string') return authorization;
  return `Bearer ${key}`;
}

/**
 * The caller by the headers of a request: an API key, or the cluster token with the name of a tenant. Throws
 * `unauthorized`.
 */
export function callerOf(
  { keys, config }: { keys: ApiKeys; config: { clusterToken: string | null } },
  headers: IncomingHttpHeaders,
): Caller {
  const tenant = headers[TENANT_HEADER];
  if (tenant === undefined) return { tenant: keys.check(credentialOf(headers)), background: false };
  const given = headers.authorization ?? '';
  const { clusterToken } = config;
  if (clusterToken === null || !sameSecret(given, `Bearer ${clusterToken}`))
    throw fail('unauthorized', `${TENANT_HEADER} is for processes of the cluster only`);
  if (typeof tenant !== 'string' || !TENANT.test(tenant))
    throw fail('invalid_value', `${TENANT_HEADER} is no name of a tenant`, { field: TENANT_HEADER });
  return { tenant, background: true };
}
