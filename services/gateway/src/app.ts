import cors from '@fastify/cors';
import swagger from '@fastify/swagger';
import { fail } from '@guildhall/common';
import fastify, { type FastifyReply, type FastifyRequest } from 'fastify';
import { jsonSchemaTransform, type ZodTypeProvider } from 'fastify-type-provider-zod';
import { EXPOSED_HEADERS } from './cors.ts';
import { checkBodyType } from './body-type.ts';
import type { GatewayContext } from './context.ts';
import { httpsFactory, SERVER_LIMITS } from './https.ts';
import { onClientError, sendError } from './http-errors.ts';
import { withUsedSchemas } from './openapi-schemas.ts';
import { adoptRequestId, requestIdOf } from './request-id.ts';
import { abilitiesRoute } from './routes/abilities.ts';
import { batchesRoute } from './routes/batches.ts';
import { chatCompletionsRoute } from './routes/chat-completions.ts';
import { completionsRoute } from './routes/completions.ts';
import { filesRoute } from './routes/files.ts';
import { healthRoute } from './routes/health.ts';
import { messagesRoute } from './routes/messages.ts';
import { metricsRoute } from './routes/metrics.ts';
import { modelsRoute } from './routes/models.ts';
import { openapiRoute } from './routes/openapi.ts';
import { renderRoute } from './routes/render.ts';
import { responsesRoute } from './routes/responses.ts';
import { tokenizeRoute } from './routes/tokenize.ts';
import { uploadsRoute } from './routes/uploads.ts';
import type { GatewayApp } from './routes/types.ts';
import { usageRoute } from './routes/usage.ts';
import { versionRoute } from './routes/version.ts';
import { OPERATIONS, RequestTelemetry } from './telemetry/request-telemetry.ts';
import { zodValidatorCompiler } from './validation.ts';

/** Header lines of a request; one with more is refused with 431. */
const MAX_HEADERS = 100;
/** For how long a browser need not ask again whether it may, seconds. */
const PREFLIGHT_S = 600;

/** Routes that need no key: probes of orchestrators have none. */
const OPEN_ROUTES: ReadonlySet<string> = new Set(['/health', '/ready', '/ping']);

/** The HTTP application. It listens to nothing yet. */
export async function buildApp(context: GatewayContext): Promise<GatewayApp> {
  const serverFactory = httpsFactory(context.config);
  const app = fastify({
    ...(serverFactory === null ? { http: SERVER_LIMITS } : { serverFactory }),
    bodyLimit: context.config.bodyLimitBytes,
    requestTimeout: SERVER_LIMITS.requestTimeout,
    keepAliveTimeout: SERVER_LIMITS.keepAliveTimeout,
    trustProxy: context.config.trustedProxies.length > 0 && [...context.config.trustedProxies],
    // Requests are logged by the onResponse hook, in one line and without anything that a client wrote.
    logger: false,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    genReqId: (request) => requestIdOf(request.headers['x-request-id']),
    clientErrorHandler: onClientError,
    routerOptions: { maxParamLength: 512 },
    frameworkErrors: (err, request, reply) => void sendError(context, request, reply, err),
  }).withTypeProvider<ZodTypeProvider>();
  app.server.maxConnections = context.config.maxConnections;
  app.server.maxHeadersCount = MAX_HEADERS;
  // Expectations other than 100-continue may be passed over (RFC 9110, 10.1.1); Node would refuse them in a form of its own.
  app.server.on('checkExpectation', (request, response) => app.routing(request, response));
  // A web page may post plain text to any address without asking; JSON it may not.
  app.removeContentTypeParser('text/plain');
  takeEmptyBodies(app);
  app.setValidatorCompiler(zodValidatorCompiler);
  // Answers are typed by their schemas at compile time and compared with them in tests; checking each would cost time.
  app.setSerializerCompiler(() => (value) => JSON.stringify(value));
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Guildhall',
        description: 'OpenAI-compatible API of a Guildhall cluster.',
        version: '1',
        license: { name: 'Apache-2.0' },
      },
      components: { securitySchemes: { apiKey: { type: 'http', scheme: 'bearer' } } },
      security: [{ apiKey: [] }],
    },
    transform: jsonSchemaTransform,
    transformObject: withUsedSchemas,
  });
  await addCors(app, context);
  addHooks(app, context);
  addFallbacks(app, context);
  addRoutes(app, context);
  return app;
}

/**
 * Takes an empty body as none where a route has no body. OpenAI's Python client names JSON as the type of every request, those of DELETE and
 * of `…/cancel` among them, and sends nothing.
 */
function takeEmptyBodies(app: GatewayApp): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body.length === 0 && request.routeOptions.schema?.body === undefined) done(null, undefined);
    else void parse(request, body as string, done);
  });
}

/** Lets web pages of the configured origins call the API. Preflights come before the key is checked: they carry none. */
async function addCors(app: GatewayApp, { config }: GatewayContext): Promise<void> {
  const origins = config.corsOrigins;
  if (origins.length === 0) return;
  await app.register(cors, {
    origin: origins.includes('*') ? '*' : [...origins],
    methods: ['GET', 'POST', 'DELETE'],
    maxAge: PREFLIGHT_S,
    exposedHeaders: [...EXPOSED_HEADERS],
  });
}

function addRoutes(app: GatewayApp, context: GatewayContext): void {
  chatCompletionsRoute(app, context);
  completionsRoute(app, context);
  responsesRoute(app, context);
  messagesRoute(app, context);
  modelsRoute(app, context);
  tokenizeRoute(app, context);
  usageRoute(app, context);
  filesRoute(app, context);
  uploadsRoute(app, context);
  batchesRoute(app, context);
  renderRoute(app, context);
  abilitiesRoute(app);
  versionRoute(app, context);
  healthRoute(app, context);
  metricsRoute(app, context);
  openapiRoute(app);
}

function routeOf(request: FastifyRequest): string {
  return request.is404 ? 'unknown' : (request.routeOptions.url ?? 'unknown');
}

/** Begins what is told of a completion. It ends when the answer is sent or its client is gone, which no hook hears of. */
function tellOf(context: GatewayContext, request: FastifyRequest, reply: FastifyReply, operation: string): void {
  const telemetry = new RequestTelemetry(context, request, operation);
  request.telemetry = telemetry;
  void reply.headers(telemetry.headers);
  const { raw } = reply;
  raw.once('close', () => telemetry.end(raw.statusCode, raw.writableFinished));
}

function addHooks(app: GatewayApp, context: GatewayContext): void {
  const { metrics, logger, inFlight, limits } = context;
  app.decorateRequest('telemetry', null);
  app.decorateRequest('caller', null);
  app.addHook('onRequest', async (request, reply) => {
    void reply.header('x-request-id', request.id);
    const operation = OPERATIONS[routeOf(request)];
    if (operation !== undefined) tellOf(context, request, reply, operation);
    if (inFlight.draining) void reply.header('connection', 'close');
    else inFlight.keep(request.raw.socket);
    if (OPEN_ROUTES.has(routeOf(request))) return;
    request.caller = await limits.auth.authenticate(request.headers, request.ip);
  });
  app.addHook('preParsing', async (request, reply) => checkBodyType(request, reply));
  app.addHook('preHandler', async (request, reply) => adoptRequestId(request, reply));
  app.addHook('onResponse', async (request, reply) => {
    const route = routeOf(request);
    const status = reply.raw.statusCode;
    metrics.count('guildhall_http_requests_total', { route, method: request.method, status });
    metrics.observe('guildhall_http_request_seconds', reply.elapsedTime / 1000, { route });
    const facts = { request: request.id, ...request.telemetry?.logFields, route, method: request.method, status };
    logger.debug({ ...facts, ms: Math.round(reply.elapsedTime) }, 'request');
  });
}

function addFallbacks(app: GatewayApp, context: GatewayContext): void {
  const methods = new RouteMethods();
  app.addHook('onRoute', (route) => methods.add(route.url, route.method));
  // Before the body is read, which nobody wants, and about which the framework may have something else to say.
  app.addHook('onRequest', async (request, reply) => {
    if (request.is404) throw notFound(methods, request, reply);
  });
  app.setErrorHandler((err, request, reply) => sendError(context, request, reply, err));
  app.setNotFoundHandler((request, reply) => sendError(context, request, reply, notFound(methods, request, reply)));
}

function notFound(methods: RouteMethods, request: FastifyRequest, reply: FastifyReply) {
  const path = request.url.split('?')[0] ?? '';
  const allowed = methods.of(path);
  if (allowed.length === 0) return fail('not_found', 'there is nothing under this path; see /openapi.json');
  void reply.header('allow', allowed.join(', '));
  return fail('method_not_allowed', `${request.method} is not allowed here; use ${allowed.join(' or ')}`);
}

/** Methods of each path, since the framework answers 404 for a known path under another method. */
class RouteMethods {
  readonly #routes: { pattern: RegExp; methods: string[] }[] = [];

  add(url: string, method: string | string[]): void {
    const pattern = new RegExp(`^${url.replaceAll('.', '\\.').replace(/:\w+/g, '[^/]+').replace('*', '.+')}$`);
    this.#routes.push({ pattern, methods: [method].flat() });
  }

  of(path: string): string[] {
    return [
      ...new Set(this.#routes.filter(({ pattern }) => pattern.test(path)).flatMap(({ methods }) => methods)),
    ].toSorted();
  }
}
