import { errorMessage, fail } from '@guildhall/common';

/** The address without a path, so that `…/v1` and `…/v1/` may be given too. Throws `config_invalid`. */
export function baseUrl(url: string): string {
  if (!URL.canParse(url) || !/^https?:/.test(url))
    throw fail('config_invalid', `--url: '${url}' is no http address`, { field: '--url' });
  const { username, password } = new URL(url);
  if (username !== '' || password !== '')
    throw fail('config_invalid', '--url: credentials belong into --api-key or --header', { field: '--url' });
  return url.replace(/\/+$/, '').replace(/\/v1$/, '');
}

/** The first model that a server lists, and the server's name for itself. Throws `peer_unavailable`. */
export async function firstModel(url: string, headers: Readonly<Record<string, string>>): Promise<string> {
  const listed = await fetch(`${url}/v1/models`, { headers, signal: AbortSignal.timeout(30_000) }).catch(
    (error: unknown) => {
      const cause = error instanceof Error && error.cause instanceof Error ? `: ${error.cause.message}` : '';
      throw fail('peer_unavailable', `${url} does not answer (${errorMessage(error)}${cause}); check --url`);
    },
  );
  const text = await listed.text();
  if (!listed.ok)
    throw fail(
      'peer_unavailable',
      `${url}/v1/models answers ${listed.status}: ${text.slice(0, 200)}; give --model, or --api-key`,
    );
  const id = modelIdOf(text);
  if (id === null) throw fail('peer_unavailable', `${url}/v1/models lists no model; give --model`);
  return id;
}

function modelIdOf(text: string): string | null {
  try {
    const { data } = JSON.parse(text) as { data?: { id?: unknown }[] };
    const id = data?.[0]?.id;
    return typeof id === 'string' ? id : null;
  } catch {
    return null;
  }
}
