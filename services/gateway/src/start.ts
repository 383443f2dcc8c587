import {
  type AdminProbes,
  advertisedAddress,
  advertisedAdmin,
  authMetadata,
  channelCredentials,
  channelOptions,
  type Clock,
  Cluster,
  createMetrics,
  fail,
  errorMessage,
  formatHostPort,
  loadConfig,
  type Logger,
  MAX_MESSAGE_BYTES,
  type Metrics,
  newIncarnation,
  once,
  openTracing,
  parseHostPort,
  processId,
  type Readiness,
  type ResponseStore,
  refuseInsecureListen,
  type ServiceContext,
  type ServiceHandle,
  SHUTDOWN_LIMIT_MS,
  startAdminServer,
  systemClock,
  type Tracing,
  VERSION,
} from '@guildhall/common';
import { batches, control, router } from '@guildhall/proto';
import { buildApp } from './app.ts';
import { type Assets, loadAssets } from './assets.ts';
import { ApiKeys } from './auth.ts';
import { type BatchConnection, BatchServices } from './batches/batch-services.ts';
import { type GatewayConfig, gatewaySchema } from './config.ts';
import type { GatewayContext } from './context.ts';
import { Hold } from './hold.ts';
import { InFlight } from './in-flight.ts';
import type { ParserName, ToolParserName } from './parsers/registry.ts';
import { type GuardDeps, PoisonGuard } from './quarantine/guard.ts';
import { BackgroundResponses } from './responses/background.ts';
import { readiness } from './routes/health.ts';
import type { GatewayApp } from './routes/types.ts';
import { type PrefixDirectory, PrefixLookup } from './routing/prefix-lookup.ts';
import { Routing } from './routing/prompt-route.ts';
import { type MemberSource, RouterPool } from './routing/router-pool.ts';
import { ServedModels } from './served-models.ts';

/**
 * Receive window of a call. Small, so that a client that does not read stops its router soon; the router's window,
 * through which prompts go, is the large one.
 */
const WINDOW_BYTES = 64 << 10;
const GAUGES_EVERY_MS = 1000;

/** Makes the clients of routers. */
export function routerConnector(
  config: GatewayConfig,
): (address: string) => { client: router.RouterClient; metadata: ReturnType<typeof authMetadata> } {
  const credentials = channelCredentials(config);
  const options = {
    ...channelOptions({ maxMessageBytes: MAX_MESSAGE_BYTES }),
    'grpc-node.flow_control_window': WINDOW_BYTES,
  };
  return (address) => ({
    client: new router.RouterClient(address, credentials, options),
    metadata: authMetadata(config),
  });
}

/** Makes the clients of batch services. */
function batchConnector(config: GatewayConfig): (address: string) => BatchConnection {
  const credentials = channelCredentials(config);
  const options = channelOptions({ maxMessageBytes: MAX_MESSAGE_BYTES });
  return (address) => ({
    client: new batches.BatchesClient(address, credentials, options),
    metadata: authMetadata(config),
  });
}

/** What a gateway is put together from. */
export interface GatewayParts {
  assets: Assets;
  members: MemberSource;
  /** Null where cached prefixes are not shared. */
  directory: PrefixDirectory | null;
  /** Where responses are kept. */
  responses: ResponseStore;
  /** Where it tells others of requests that break processes. */
  guard: GuardDeps;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
  tracing: Tracing;
}

/** Puts together what routes need. */
export function createContext(config: GatewayConfig, parts: GatewayParts): GatewayContext {
  const { assets, members, directory, clock, logger, metrics, tracing } = parts;
  const pool = new RouterPool({ members, connect: routerConnector(config), clock, logger });
  const timeoutMs = config.routingTimeoutMs;
  const inFlight = new InFlight(config.maxInFlight, clock);
  const lookup = directory === null ? null : new PrefixLookup({ directory, clock, logger, metrics, timeoutMs });
  const background = new BackgroundResponses({
    store: parts.responses,
    gateway: parts.guard.source,
    clock,
    logger,
    metrics,
  });
  const context: GatewayContext = {
    config,
    assets,
    parser: parserOf(config, assets),
    toolParser: toolParserOf(config, assets),
    pool,
    routing: new Routing({ pool, lookup, mode: config.routing, clock, metrics }),
    guard: new PoisonGuard({
      ...parts.guard,
      clock,
      logger,
      metrics,
      quarantineMs: config.quarantineMs,
      maxDeathsAlone: config.maxFruitlessResumes,
      onFree: () => pool.nudge(),
    }),
    batches: new BatchServices({ members, connect: batchConnector(config), clock }),
    models: new ServedModels(config.servedModelName, pool, assets.name, config.holdMs > 0),
    responses: parts.responses,
    background,
    hold: new Hold({ pool, holdMs: config.holdMs, maxHeld: config.maxHeld, clock, metrics }),
    keys: ApiKeys.load(config),
    inFlight,
    drain: once(() => inFlight.drain(config.lingerMs, config.drainMs)),
    clock,
    logger,
    metrics,
    tracing,
    startedAtS: Math.floor(clock.nowMs() / 1000),
  };
  background.attach(context);
  return context;
}

function parserOf(config: GatewayConfig, assets: Assets): ParserName {
  if (config.reasoningParser !== 'auto') return config.reasoningParser;
  return assets.tokenizer.tokenToId('</think>') === null ? 'none' : 'qwen3';
}

/** The form of calls that the template shows to the model. */
function toolParserOf(config: GatewayConfig, { template }: Assets): ToolParserName {
  if (config.toolCallParser !== 'auto') return config.toolCallParser;
  if (template === null) return 'none';
  if (template.text.includes('<function=')) return 'qwen3_xml';
  return template.text.includes('<tool_call>') ? 'hermes' : 'none';
}

/** Listens and returns host:port with the port that it got. Throws `config_invalid`. */
export async function listen(app: GatewayApp, hostPort: string): Promise<string> {
  const { host, port } = parseHostPort(hostPort);
  try {
    await app.listen({ host, port });
  } catch (err) {
    throw fail('config_invalid', `cannot listen on ${hostPort}: ${errorMessage(err)}`, { field: 'listen', cause: err });
  }
  const bound = app.server.address();
  if (bound === null || typeof bound === 'string') throw fail('internal', 'the HTTP server has no address');
  return formatHostPort(host, bound.port);
}

function ownMember(
  config: GatewayConfig,
  context: GatewayContext,
  id: string,
  incarnation: bigint,
  address: string,
  admin: string,
): Uint8Array {
  const member = control.Member.create({
    kind: control.MemberKind.MEMBER_KIND_GATEWAY,
    id,
    incarnation,
    address: advertisedAddress(config, address),
    adminAddress: advertisedAdmin(config, admin),
    node: config.node,
    version: VERSION,
    ready: readiness(context).ready,
    draining: context.inFlight.draining,
    servedModels: [...context.models.names],
    running: context.inFlight.size,
    heldRequests: context.hold.size,
  });
  return control.Member.encode(member).finish();
}

/** Starts the gateway's process. */
export async function startGateway(service: ServiceContext): Promise<ServiceHandle> {
  const { logger } = service;
  const config = loadConfig(gatewaySchema, { argv: service.argv, env: service.env, program: 'gateway' });
  const clock = systemClock;
  refuseInsecureListen(config, {
    authenticated: config.allowAnonymous || ApiKeys.load(config).required,
    remedy: 'set --api-key (GUILDHALL_API_KEYS), or --allow-anonymous where something else keeps strangers out,',
  });
  const metrics = createMetrics('gateway');
  const probes = new GatewayProbes();
  const admin = await startAdminServer(config.adminListen, metrics, probes);
  // Added first and so closed last: readiness and metrics are there to the end.
  service.onShutdown(() => admin.close());
  const assets = loadAssets(config.model);
  const id = processId('gateway', config.id);
  const tracing = await openTracing({ config, service: 'gateway', id, clock, logger, metrics });
  service.onShutdown(() => tracing.shutDown());
  const cluster = new Cluster({ redis: config.redis, cluster: config.cluster, access: config, clock, logger });
  service.onShutdown(() => cluster.close());
  cluster.directory.meter(metrics);
  await cluster.members.start();
  const context = createContext(config, {
    assets,
    members: cluster.members,
    directory: cluster.directory,
    responses: cluster.responses,
    guard: { source: id, shared: cluster.quarantine, log: cluster.eventLog },
    clock,
    logger,
    metrics,
    tracing,
  });
  service.onShutdown(() => context.pool.close());
  service.onShutdown(() => context.batches.close());
  await context.guard.quarantine.start();
  service.onShutdown(() => context.guard.quarantine.stop());
  const app = await buildApp(context);
  const address = await listen(app, config.listen);
  service.onShutdown(() => closeApp(app, context), config.lingerMs + config.drainMs + SHUTDOWN_LIMIT_MS);
  probes.serve(context);
  context.background.start();
  service.onShutdown(() => context.background.stop());
  const gauges = clock.setInterval(GAUGES_EVERY_MS, () => {
    metrics.gauge('guildhall_routers', context.pool.usable.length);
  });
  service.onShutdown(() => gauges.cancel());
  await joinCluster(service, config, context, cluster, id, address, admin.address);
  return { address, admin: admin.address };
}

async function joinCluster(
  service: ServiceContext,
  config: GatewayConfig,
  context: GatewayContext,
  cluster: Cluster,
  id: string,
  address: string,
  admin: string,
): Promise<void> {
  const incarnation = newIncarnation();
  const value = (): Uint8Array => ownMember(config, context, id, incarnation, address, admin);
  const { metrics } = context;
  metrics.gauge('guildhall_build_info', 1, { service: 'gateway', version: VERSION, numerics_id: '' });
  const onRenew = (up: boolean): void => {
    metrics.gauge('guildhall_redis_up', up ? 1 : 0);
    metrics.count('guildhall_lease_renewals_total', { outcome: up ? 'renewed' : 'failed' });
  };
  const lease = cluster.lease({
    kind: 'gateway',
    id,
    incarnation,
    value,
    onLost: (err) => service.fatal(err),
    onRenew,
  });
  // A request that is held wakes the model up, as soon as others know of it.
  context.hold.onChange = () => lease.touch();
  // Serving does not depend on being listed, so it does not wait for Redis.
  lease.join(service.signal).catch((err: unknown) => {
    if (!service.signal.aborted) service.fatal(err);
  });
}

/** What the admin server asks a gateway that may still be starting. */
class GatewayProbes implements AdminProbes {
  #context: GatewayContext | null = null;

  /** The start is over. */
  serve(context: GatewayContext): void {
    this.#context = context;
  }

  started(): boolean {
    return this.#context !== null;
  }

  readiness(): Readiness {
    return this.#context === null ? { ready: false, reason: 'starting' } : readiness(this.#context);
  }

  async drain(): Promise<void> {
    await this.#context?.drain();
  }
}

/** Lets running completions end, then closes all connections. */
export async function closeApp(app: GatewayApp, context: GatewayContext): Promise<void> {
  await context.drain();
  const closed = app.close();
  app.server.closeAllConnections();
  await closed;
}
