import { createServer, type ServerResponse } from 'node:http';
import { errorMessage, fail, toHttp } from './errors.ts';
import type { Metrics } from './metrics.ts';
import { formatHostPort, parseHostPort } from './service-options.ts';

/** What /ready says. */
export interface Readiness {
  ready: boolean;
  /** What is missing, when not ready. */
  reason: string | null;
  /** Further facts to show, such as the epoch. */
  details?: Record<string, unknown>;
}

export interface AdminServer {
  /** host:port that it listens on. */
  address: string;
  close(): Promise<void>;
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

async function answer(
  path: string,
  response: ServerResponse,
  metrics: Metrics,
  readiness: () => Readiness,
): Promise<void> {
  if (path === '/health') return sendJson(response, 200, { status: 'alive' });
  if (path === '/ready') {
    const state = readiness();
    return sendJson(response, state.ready ? 200 : 503, { ready: state.ready, reason: state.reason, ...state.details });
  }
  if (path === '/metrics') {
    const { contentType, body } = await metrics.render();
    response.writeHead(200, { 'content-type': contentType }).end(body);
    return;
  }
  const missing = toHttp(fail('not_found', `no ${path} here; there are /health, /ready and /metrics`));
  sendJson(response, missing.status, missing.body);
}

/**
 * Serves /health (200 while alive), /ready (200 or 503 with the reason) and /metrics. Throws `config_invalid` when
 * the address cannot be bound.
 */
export async function startAdminServer(
  listen: string,
  metrics: Metrics,
  readiness: () => Readiness,
): Promise<AdminServer> {
  const { host, port } = parseHostPort(listen);
  const server = createServer({ keepAliveTimeout: 5000, requestTimeout: 10_000 }, (request, response) => {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      const refused = toHttp(fail('method_not_allowed', 'only GET is served here'));
      response.setHeader('allow', 'GET, HEAD');
      return sendJson(response, refused.status, refused.body);
    }
    const path = (request.url ?? '/').split('?')[0] ?? '/';
    answer(path, response, metrics, readiness).catch((err: unknown) => {
      const failed = toHttp(err);
      if (!response.headersSent) sendJson(response, failed.status, failed.body);
      else response.destroy();
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (err) => {
      reject(
        fail('config_invalid', `cannot listen on ${listen}: ${errorMessage(err)}`, {
          field: 'adminListen',
          cause: err,
        }),
      );
    });
    server.listen({ host, port }, resolve);
  });
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw fail('internal', 'the admin server has no address');
  return {
    address: formatHostPort(host, bound.port),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
