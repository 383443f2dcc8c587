import type { RequestListener, Server } from 'node:http';
import { createServer } from 'node:https';
import { errorMessage, fail, systemClock, TLS_REFRESH_MS, TlsFiles } from '@guildhall/common';

/** What bounds a connection before its request is there, with TLS and without. */
export const SERVER_LIMITS = {
  /** Time in which a whole request must have arrived, ms. */
  requestTimeout: 60_000,
  /** Time in which its head must have, ms. */
  headersTimeout: 20_000,
  keepAliveTimeout: 75_000,
  /** How often both are looked at, ms. */
  connectionsCheckingInterval: 5000,
  /** Bytes of URL and headers together. */
  maxHeaderSize: 16 << 10,
};

/** Certificate and key of the HTTP API, or neither where something in front of it ends TLS. */
export interface HttpsConfig {
  httpsCert: string | null;
  httpsKey: string | null;
}

/**
 * The server factory that makes the HTTP API speak TLS, or null where no certificate is configured. Files that are replaced
 * count for the connections that follow. Throws `config_invalid`.
 */
export function httpsFactory(config: HttpsConfig): ((handler: RequestListener) => Server) | null {
  const { httpsCert, httpsKey } = config;
  if (httpsCert === null && httpsKey === null) return null;
  if (httpsCert === null || httpsKey === null) {
    const field = httpsCert === null ? 'httpsCert' : 'httpsKey';
    throw fail('config_invalid', '--https-cert and --https-key go together', { field });
  }
  const files = new TlsFiles({
    cert: { path: httpsCert, field: 'httpsCert' },
    key: { path: httpsKey, field: 'httpsKey' },
    ca: null,
  });
  const options = (): { cert: Buffer | undefined; key: Buffer | undefined; minVersion: 'TLSv1.2' } => {
    const { cert, key } = files.current();
    return { cert: cert ?? undefined, key: key ?? undefined, minVersion: 'TLSv1.2' };
  };
  return (handler) => {
    try {
      const server = createServer({ ...options(), ...SERVER_LIMITS }, handler);
      let known = files.current();
      const refresh = systemClock.setInterval(TLS_REFRESH_MS, () => {
        if (files.current() === known) return;
        known = files.current();
        server.setSecureContext(options());
      });
      server.once('close', () => refresh.cancel());
      // Fastify asks for what both kinds of server have; their types are apart only by inheritance.
      return server as unknown as Server;
    } catch (err) {
      throw fail('config_invalid', `--https-cert: ${errorMessage(err)}`, { field: 'httpsCert', cause: err });
    }
  };
}
