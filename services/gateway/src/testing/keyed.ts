import type { KeyRecord, NewKey } from '@guildhall/common';
import { PLAIN_KEY } from '@guildhall/common/testing';
import type { GatewayUnderTest } from './gateway-under-test.ts';

/** Makes a key in the Redis of a gateway. */
export function makeKey(
  gateway: GatewayUnderTest,
  wanted: Partial<NewKey> = {},
): Promise<{ key: string; record: KeyRecord }> {
  return gateway.accounts.keys.create({ ...PLAIN_KEY, ...wanted }, Date.now());
}

/** Headers of a caller with a key. */
export function withKey(key: string, more: Record<string, string> = {}): RequestInit {
  return { headers: { authorization: `Bearer ${key}`, ...more } };
}

/** What an answer says of its refusal. */
export async function refusalOf(response: Response): Promise<{ status: number; code: string; reason: string | null }> {
  const { error } = (await response.json()) as { error?: { code: string } };
  return { status: response.status, code: error?.code ?? '', reason: response.headers.get('x-guildhall-reason') };
}
