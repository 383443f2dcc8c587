import { fail, isLoopback } from '@guildhall/common';

/** Where the hub is unless something else is configured. */
export const DEFAULT_ENDPOINT = 'https://huggingface.co';

/** A hub or a mirror of it, and how to be let in. */
export interface Endpoint {
  url: URL;
  token: string | null;
}

/**
 * Endpoint and token from a flag and the environment: GUILDHALL_HUB_ENDPOINT or HF_ENDPOINT, GUILDHALL_HUB_TOKEN or
 * HF_TOKEN.
 * @throws config_invalid for what is no http(s) address, and for a token that would travel unprotected.
 */
export function chooseEndpoint(flag: string | null, env: Record<string, string | undefined>): Endpoint {
  const text = flag || env['GUILDHALL_HUB_ENDPOINT'] || env['HF_ENDPOINT'] || DEFAULT_ENDPOINT;
  const url = URL.parse(text);
  if (url === null || !['http:', 'https:'].includes(url.protocol)) {
    throw fail('config_invalid', `--endpoint: '${text}' is no http or https address`, { field: 'endpoint' });
  }
  if (url.username !== '' || url.password !== '') {
    const message = '--endpoint: leave credentials out of the address; a token goes into GUILDHALL_HUB_TOKEN';
    throw fail('config_invalid', message, { field: 'endpoint' });
  }
  const token = (env['GUILDHALL_HUB_TOKEN'] || env['HF_TOKEN'] || '').trim() || null;
  if (token !== null && !/^[\x21-\x7e]+$/.test(token)) {
    throw fail('config_invalid', 'the token of the hub holds characters that no token has');
  }
  if (token !== null && url.protocol === 'http:' && !isLoopback(url.hostname.replace(/^\[|\]$/g, ''))) {
    throw fail(
      'config_invalid',
      `--endpoint: a token is set and ${url.origin} is plain http, where others could read it: use https, or unset GUILDHALL_HUB_TOKEN and HF_TOKEN`,
      { field: 'endpoint' },
    );
  }
  return { url, token };
}
