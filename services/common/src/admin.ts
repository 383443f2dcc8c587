import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { errorMessage, fail, type GuildhallError, toHttp } from './errors.ts';
import type { Metrics } from './metrics.ts';
import { formatHostPort, isLoopback, parseHostPort } from './service-options.ts';

/** What /ready says. */
export interface Readiness {
  ready: boolean;
  /** What is missing, when not ready. */
  reason: string | null;
  /** Further facts to show, such as the epoch. */
  details?: Record<string, unknown>;
}

/** What the admin server asks its process. */
export interface AdminProbes {
  /** False while the process still starts: weights are read and checked. */
  started: () => boolean;
  readiness: () => Readiness;
  /** Takes the process out of service; every call gets the one drain that there is. */
  drain: () => Promise<void>;
}

export interface AdminServer {
  /** host:port that it listens on. */
  address: string;
  close(): Promise<void>;
}

const PATHS = '/health, /started, /ready, /metrics and POST /drain';
const GET_METHODS = ['GET', 'HEAD'];

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

/**
 * Throws `forbidden` unless a process of this machine or pod asks. Other machines reach this port for probes and metrics;
 * a page in a browser of this machine does as well, and browsers always say where a POST comes from.
 */
export function refuseForeignDrain(peer: string | undefined, origin: string | undefined): void {
  if (!isLoopback((peer ?? '').replace(/^::ffff:/, '')))
    throw fail('forbidden', 'a drain is asked for from this machine or pod only; see guildhall drain');
  if (origin !== undefined) throw fail('forbidden', 'a web page may not ask for a drain');
}

class AdminHandler {
  readonly #metrics: Metrics;
  readonly #probes: AdminProbes;

  constructor(metrics: Metrics, probes: AdminProbes) {
    this.#metrics = metrics;
    this.#probes = probes;
  }

  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? '/').split('?')[0] ?? '/';
    const methods = path === '/drain' ? ['POST'] : GET_METHODS;
    if (!methods.includes(request.method ?? '')) {
      response.setHeader('allow', methods.join(', '));
      throw fail('method_not_allowed', `only ${methods.join(' and ')} is served at ${path}`);
    }
    if (path === '/health') return sendJson(response, 200, { status: 'alive' });
    if (path === '/started') return this.#started(response);
    if (path === '/ready') return this.#ready(response);
    if (path === '/metrics') return this.#render(response);
    if (path === '/drain') return this.#drain(request, response);
    throw fail('not_found', `no ${path} here; there are ${PATHS}`);
  }

  #started(response: ServerResponse): void {
    const started = this.#probes.started();
    sendJson(response, started ? 200 : 503, { started });
  }

  #ready(response: ServerResponse): void {
    const { ready, reason, details } = this.#probes.readiness();
    sendJson(response, ready ? 200 : 503, { ready, reason, ...details });
  }

  async #render(response: ServerResponse): Promise<void> {
    const { contentType, body } = await this.#metrics.render();
    response.writeHead(200, { 'content-type': contentType }).end(body);
  }

  async #drain(request: IncomingMessage, response: ServerResponse): Promise<void> {
    refuseForeignDrain(request.socket.remoteAddress, request.headers.origin);
    await this.#probes.drain();
    sendJson(response, 200, { drained: true });
  }
}

function answerFailure(response: ServerResponse, err: unknown): void {
  const failed = toHttp(err);
  if (response.headersSent) response.destroy();
  else sendJson(response, failed.status, failed.body);
}

/**
 * Serves /health (200 while alive), /started (200 once the start is over), /ready (200 or 503 with the reason), /metrics,
 * and POST /drain, which answers when the drain is over. Throws `config_invalid` when the address cannot be bound.
 */
export async function startAdminServer(listen: string, metrics: Metrics, probes: AdminProbes): Promise<AdminServer> {
  const { host, port } = parseHostPort(listen);
  const handler = new AdminHandler(metrics, probes);
  const server = createServer({ keepAliveTimeout: 5000, requestTimeout: 10_000 }, (request, response) => {
    handler.handle(request, response).catch((err: unknown) => answerFailure(response, err));
  });
  await listening(server, host, port, (err) =>
    fail('config_invalid', `cannot listen on ${listen}: ${errorMessage(err)}`, { field: 'adminListen', cause: err }),
  );
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

async function listening(
  server: Server,
  host: string,
  port: number,
  failure: (err: Error) => GuildhallError,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (err) => reject(failure(err)));
    server.listen({ host, port }, resolve);
  });
}
