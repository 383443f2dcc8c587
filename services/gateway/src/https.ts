import { readFileSync } from 'node:fs';
import type { RequestListener, Server } from 'node:http';
import { createServer } from 'node:https';
import { errorMessage, fail } from '@guildhall/common';

/** Certificate and key of the HTTP API, or neither where something in front of it ends TLS. */
export interface HttpsConfig {
  httpsCert: string | null;
  httpsKey: string | null;
}

function readPem(path: string, field: keyof HttpsConfig): Buffer {
  try {
    return readFileSync(path);
  } catch (err) {
    throw fail('config_invalid', `${path}: cannot be read: ${errorMessage(err)}`, { field, cause: err });
  }
}

/**
 * The server factory that makes the HTTP API speak TLS, or null where no certificate is configured.
 * Throws `config_invalid`.
 */
export function httpsFactory(
  config: HttpsConfig,
  timeouts: { request: number; keepAlive: number },
): ((handler: RequestListener) => Server) | null {
  const { httpsCert, httpsKey } = config;
  if (httpsCert === null && httpsKey === null) return null;
  if (httpsCert === null || httpsKey === null) {
    const field = httpsCert === null ? 'httpsCert' : 'httpsKey';
    throw fail('config_invalid', '--https-cert and --https-key go together', { field });
  }
  const options = {
    cert: readPem(httpsCert, 'httpsCert'),
    key: readPem(httpsKey, 'httpsKey'),
    minVersion: 'TLSv1.2' as const,
  };
  return (handler) => {
    try {
      const server = createServer(
        { ...options, requestTimeout: timeouts.request, keepAliveTimeout: timeouts.keepAlive },
        handler,
      );
      // Fastify asks for what both kinds of server have; their types are apart only by inheritance.
      return server as unknown as Server;
    } catch (err) {
      throw fail('config_invalid', `--https-cert: ${errorMessage(err)}`, { field: 'httpsCert', cause: err });
    }
  };
}
