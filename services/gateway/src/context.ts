import type { Clock, Logger, Metrics, ResponseStore, Tracing } from '@guildhall/common';
import type { Assets } from './assets.ts';
import type { ApiKeys } from './auth.ts';
import type { BatchServices } from './batches/batch-services.ts';
import type { GatewayConfig } from './config.ts';
import type { Hold } from './hold.ts';
import type { InFlight } from './in-flight.ts';
import type { PoisonGuard } from './quarantine/guard.ts';
import type { ParserName, ToolParserName } from './parsers/registry.ts';
import type { BackgroundResponses } from './responses/background.ts';
import type { Routing } from './routing/prompt-route.ts';
import type { RouterPool } from './routing/router-pool.ts';
import type { ServedModels } from './served-models.ts';

/** Everything that routes need. */
export interface GatewayContext {
  config: GatewayConfig;
  assets: Assets;
  /** How chat answers are parsed. */
  parser: ParserName;
  /** In which form the model writes tool calls. */
  toolParser: ToolParserName;
  pool: RouterPool;
  routing: Routing;
  /** Knows which requests break processes. */
  guard: PoisonGuard;
  /** Processes that have files and batches. */
  batches: BatchServices;
  models: ServedModels;
  /** Responses that clients may ask for again. */
  responses: ResponseStore;
  /** Responses that are generated while nobody waits. */
  background: BackgroundResponses;
  /** Keeps requests while no router is there. */
  hold: Hold;
  keys: ApiKeys;
  inFlight: InFlight;
  /** Takes the gateway out of service: lingers, lets running completions end. There is one drain only. */
  drain: () => Promise<void>;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
  tracing: Tracing;
  /** Seconds since the Unix epoch at start, as `created` of the models. */
  startedAtS: number;
}

/** The longest prompt and answer together, in tokens. */
export function contextLength(context: GatewayContext): number {
  return context.config.maxContext ?? context.pool.maxContext ?? context.assets.maxPositions;
}
