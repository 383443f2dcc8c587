import {
  type AdminServer,
  advertisedAddress,
  advertisedAdmin,
  bindGrpcServer,
  type Clock,
  createGrpcServer,
  createMetrics,
  GrpcHealth,
  type Logger,
  newIncarnation,
  openTracing,
  processId,
  type Readiness,
  refuseInsecureListen,
  shutDownGrpcServer,
  startAdminServer,
  type Tracing,
  VERSION,
} from '@guildhall/common';
import { pages, router } from '@guildhall/proto';
import type { RouterConfig } from './config.ts';
import { KvHome } from './kv-home.ts';
import { loadModel } from './load-model.ts';
import { setCacheInfo } from './metrics.ts';
import { RouterCore } from './router-core.ts';

export interface RouterDeps {
  logger: Logger;
  clock: Clock;
  /** Aborts when the process is asked to stop while it is starting. */
  signal: AbortSignal;
  /** Called when the router cannot go on: its id was taken, or an internal account does not add up. */
  onFatal: (err: unknown) => void;
}

/** A running router. */
export interface RouterApp {
  id: string;
  address: string;
  admin: string;
  numericsId: string;
  fingerprint: string;
  readiness(): Readiness;
  /** Takes nothing new, and moves running streams to other routers or lets them finish for a while. */
  drain(): Promise<void>;
  /** Drains, leaves the cluster and frees everything. */
  stop(): Promise<void>;
}

/** Requests carry prompts of up to the whole context, answers the log-probabilities of one. */
const RPC_MESSAGE_BYTES = 16 << 20;
const SHUTDOWN_GRACE_MS = 1000;
const GAUGES_EVERY_MS = 1000;

/**
 * Starts a router: /health answers from the beginning, requests are taken once the model is loaded, and the cluster
 * is joined in the background. Errors: `config_invalid`, `insecure_listen`, those of loadModel.
 */
export async function startRouter(config: RouterConfig, deps: RouterDeps): Promise<RouterApp> {
  refuseInsecureListen(config);
  const metrics = createMetrics('router');
  const id = processId('router', config.id);
  const { clock, logger } = deps;
  const tracing = await openTracing({ config, service: 'router', id, clock, logger, metrics });
  let core: RouterCore | null = null;
  const readiness = (): Readiness => core?.readiness() ?? { ready: false, reason: 'loading the model' };
  const admin = await startAdminServer(config.adminListen, metrics, {
    started: () => core !== null,
    readiness,
    // A router that has not loaded its model has nothing to move; SIGTERM ends it.
    drain: async () => await core?.drain(),
  });
  try {
    const loaded = await loadModel(config, deps.logger, deps.signal);
    const identity = { id, incarnation: newIncarnation() };
    const parts = { config, loaded, identity, metrics, tracing, clock, logger };
    core = new RouterCore({ ...parts, kvHome: await KvHome.open(parts), onFatal: deps.onFatal });
    return await serve(config, deps, core, admin, tracing);
  } catch (err) {
    await core?.stop();
    await tracing.shutDown();
    await admin.close();
    throw err;
  }
}

async function serve(
  config: RouterConfig,
  deps: RouterDeps,
  core: RouterCore,
  admin: AdminServer,
  tracing: Tracing,
): Promise<RouterApp> {
  const { clock, logger } = deps;
  const server = createGrpcServer(config, { maxMessageBytes: RPC_MESSAGE_BYTES });
  server.addService(router.RouterService, core.rpc());
  server.addService(pages.PagesService, core.kvHome.peers.rpc());
  const services = [router.RouterClient.serviceName, pages.PagesClient.serviceName];
  const health = new GrpcHealth(server, { services, ready: () => core.readiness().ready, clock });
  const address = await bindGrpcServer(server, config.listen);
  const { numericsId, fingerprint } = core.loaded;
  core.metrics.gauge('guildhall_build_info', 1, { service: 'router', version: VERSION, numerics_id: numericsId });
  setCacheInfo(core.metrics, config, core.loaded);
  logger.info({ address, fingerprint, numericsId, maxContext: core.loaded.maxContext }, 'router started');
  core.setGauges();
  const gauges = clock.setInterval(GAUGES_EVERY_MS, () => core.setGauges());
  const joined = core
    .join(advertisedAddress(config, address), advertisedAdmin(config, admin.address))
    .catch((err: unknown) => {
      if (!core.stopping) deps.onFatal(err);
    });
  return {
    id: core.id,
    address,
    admin: admin.address,
    numericsId,
    fingerprint,
    readiness: () => core.readiness(),
    drain: () => core.drain(),
    async stop() {
      await core.drain();
      gauges.cancel();
      health.close();
      await core.stop();
      await joined;
      await shutDownGrpcServer(server, SHUTDOWN_GRACE_MS);
      await tracing.shutDown();
      await admin.close();
    },
  };
}
